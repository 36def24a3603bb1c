"""Runs can be cancelled and deleted, but not while that would lose something."""

import json

import pytest

from mer.config.presets import PRESETS
from mer.experiments.prepared import Spec
from mer.jobs.queue import cancel, delete, submit
from mer.runs.run import state_path
from mer.runs.store import RunStore
from mer.utils.errors import RunError


@pytest.fixture
def runs(runs_home):
    return RunStore.open()


@pytest.mark.parametrize("name", PRESETS)
def test_a_run_of_every_preset_can_be_queued(runs, song_corpus, name):
    run = runs.get(submit(runs, Spec(data=str(song_corpus), config=PRESETS[name])))
    assert run.status == "queued"
    assert run.name == f"{PRESETS[name].train.backbone} {song_corpus.name}"


def test_a_running_run_is_asked_to_stop(runs):
    run_id = runs.create("one", {})
    runs.start(run_id)
    assert cancel(runs, run_id).status == "stopping"
    assert runs.stop_requested(run_id)


def test_the_folds_of_a_cancelled_run_are_asked_too(runs):
    parent = runs.create("all", {})
    fold = runs.create("fold", {}, parent=parent)
    runs.start(parent)
    runs.start(fold)
    cancel(runs, parent)
    assert runs.stop_requested(fold)


def test_an_interrupted_run_is_stopped_at_once(runs):
    run_id = runs.create("one", {})
    runs.start(run_id)
    owner = json.loads(runs.get(run_id).tags["mer.owner"])
    runs.tag(run_id, {"mer.owner": json.dumps(owner | {"born": 0})})
    assert cancel(runs, run_id).status == "stopped"
    assert runs.get(run_id).status == "stopped"


def test_a_finished_run_cannot_be_cancelled(runs):
    run_id = runs.create("one", {})
    runs.finish(run_id, "finished")
    with pytest.raises(RunError, match="is finished already; there is nothing to cancel"):
        cancel(runs, run_id)


def test_a_running_run_cannot_be_deleted(runs):
    run_id = runs.create("one", {})
    runs.start(run_id)
    with pytest.raises(RunError, match="is running; cancel it first: mer runs cancel"):
        delete(runs, run_id)


def test_deleting_a_run_removes_its_folds_and_its_state(runs):
    parent = runs.create("all", {})
    fold = runs.create("fold", {}, parent=parent)
    state_path(fold).parent.mkdir(parents=True)
    state_path(fold).write_bytes(b"state")
    delete(runs, parent)
    assert not {parent, fold} & {run.id for run in runs.runs()}
    assert not state_path(fold).parent.exists()

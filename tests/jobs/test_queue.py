"""Runs can be cancelled and deleted, but not while that would lose something."""

import json

import pytest

from mer.config.presets import PRESETS
from mer.experiments.prepared import Spec
from mer.jobs.queue import cancel, delete, log_path, prune, submit
from mer.runs.deleted import deleted_runs, restore
from mer.runs.run import GoneError, state_path
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


@pytest.fixture
def two_folds(runs):
    """A cross-validation with a fold that has a state, a log and a checkpoint: 12 bytes and the log."""
    parent = runs.create("all", {})
    fold = runs.create("fold", {}, parent=parent)
    for path in (state_path(fold), log_path(fold)):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"state")
    runs.save_folder(fold, "checkpoint", lambda folder: (folder / "tensors").write_bytes(b"weights"))
    runs.finish(parent, "failed")
    return parent, fold


def test_a_deleted_run_is_restored_with_its_folds_and_files(runs, two_folds):
    parent, fold = two_folds
    delete(runs, parent)
    assert not {parent, fold} & {run.id for run in runs.runs()}
    assert {run.id for run in deleted_runs(runs)} == {parent, fold}
    assert restore(runs, parent[:8]).id == parent
    assert {parent, fold} <= {run.id for run in runs.runs()}
    assert not deleted_runs(runs)
    assert state_path(fold).read_bytes() == log_path(fold).read_bytes() == b"state"
    assert (runs.folder(fold, "checkpoint") / "tensors").read_bytes() == b"weights"


def test_a_run_that_is_deleted_twice_is_deleted(runs):
    run_id = runs.create("one", {})
    assert delete(runs, run_id).id == delete(runs, run_id).id == run_id


def test_the_files_of_deleted_runs_are_removed_for_good(runs, two_folds):
    parent, fold = two_folds
    kept = runs.create("kept", {})
    runs.save_folder(kept, "checkpoint", lambda folder: (folder / "tensors").write_bytes(b"weights"))
    delete(runs, parent)
    found, size = prune(runs, dry_run=True)
    assert ({run.id for run in found}, size) == ({parent, fold}, 12)
    assert state_path(fold).exists()
    assert prune(runs)[1] == 12
    assert not state_path(fold).parent.exists()
    assert not log_path(fold).exists()
    assert not runs.place_of(runs.get(kept)).parent.with_name(fold).exists()
    assert prune(runs) == ([], 0)
    assert not {parent, fold} & {run.id for run in runs.runs()}
    assert runs.folder(kept, "checkpoint")
    with pytest.raises(GoneError, match="there is no such run; 'mer runs list --deleted' shows"):
        restore(runs, parent)


def test_only_the_named_deleted_runs_are_removed(runs):
    first, second, active = (runs.create(name, {}) for name in ("one", "two", "three"))
    delete(runs, first)
    delete(runs, second)
    assert [run.id for run in prune(runs, [first[:8]])[0]] == [first]
    assert [run.id for run in deleted_runs(runs)] == [second]
    with pytest.raises(RunError, match="there is no such run"):
        prune(runs, [active])
    assert runs.get(active)


def test_a_queued_run_that_was_deleted_comes_back_stopped(runs):
    run_id = runs.create("one", {})
    delete(runs, run_id)
    restore(runs, run_id)
    assert runs.get(run_id).status == "stopped"

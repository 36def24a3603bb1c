"""A run in the foreground waits in this machine's queue, and is checked before it is recorded."""

import json

import pytest
from filelock import FileLock

from mer.experiments import prepared, setup
from mer.experiments.experiment import Experiment
from mer.experiments.prepared import Spec
from mer.jobs.queue import cancel
from mer.runs.store import RunStore
from mer.utils.errors import BackboneError, WeightsError
from tests.run_helpers import tiny_config

WAITING = "waiting for a free slot"


@pytest.fixture
def runs(runs_home):
    return RunStore.open()


@pytest.fixture
def spec(song_corpus):
    return Spec(data=str(song_corpus), config=tiny_config(epochs=1))


@pytest.fixture
def slot(runs_home, monkeypatch):
    """The only slot of this machine, held by another run until it is released."""
    monkeypatch.setenv("MER_SLOTS", "1")
    monkeypatch.setattr("mer.runs.slots.PATIENCE", 0.01)
    folder = runs_home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "slot-0.lock") as lock:
        yield lock


def when_waiting(act):
    """A `notify` that notes all titles, and acts once the run waits."""
    titles = []

    def notify(title, done, total):
        titles.append(title)
        if title == WAITING:
            act()

    return titles, notify


def waiting_run(runs):
    return next(run for run in runs.active() if run.waits_here)


def test_it_waits_for_a_slot_and_says_so(runs, spec, slot):
    def look_and_release():
        stages.append(json.loads(waiting_run(runs).tags["mer.stage"])["title"])
        slot.release()

    stages = []
    _, notify = when_waiting(look_and_release)
    outcome = Experiment(notify=notify).train(spec)
    assert outcome.status == "finished"
    assert stages == [WAITING]
    assert runs.get(outcome.run_id).tags["mer.stage"] == ""


def test_ctrl_c_leaves_the_queue_and_the_run_can_be_resumed(runs, spec, slot):
    def interrupt():
        raise KeyboardInterrupt

    _, notify = when_waiting(interrupt)
    outcome = Experiment(notify=notify).train(spec)
    run = runs.get(outcome.run_id)
    assert (outcome.status, run.status, run.reason) == ("stopped", "stopped", "stopped by Ctrl-C")
    slot.release()
    assert Experiment().resume(run.id).status == "finished"


def test_a_resumed_run_waits_too(runs, spec, slot):
    run_id = runs.create("one", spec.to_dict())
    runs.finish(run_id, "failed")
    titles, notify = when_waiting(slot.release)
    assert Experiment(notify=notify).resume(run_id).status == "finished"
    assert WAITING in titles


def test_it_can_be_cancelled_while_it_waits(runs, spec, slot):
    _, notify = when_waiting(lambda: cancel(runs, waiting_run(runs).id))
    outcome = Experiment(notify=notify).train(spec)
    assert outcome.status == "stopped"
    assert runs.get(outcome.run_id).reason.startswith(("cancelled", "stopped on request"))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"backbone": "alexnet", "image_size": 32}, BackboneError),
        ({"weights": "corpus"}, WeightsError),
    ],
)
def test_impossible_requests_are_refused_before_the_queue_and_leave_no_run(
    own_home, song_corpus, changes, error, tmp_path
):
    if "weights" in changes:  # a file that is there, and holds no weights
        path = tmp_path / "no.pth"
        path.write_bytes(b"no weights")
        changes = {"weights": str(path)}
    with pytest.raises(error):
        Experiment().train(Spec(data=str(song_corpus), config=tiny_config(**changes)))
    assert not (own_home / "mlflow.db").exists()


def test_a_run_splits_its_clips_once_and_builds_one_network(runs, spec, monkeypatch):
    calls = []

    def counted(place, name):
        function = getattr(place, name)
        monkeypatch.setattr(place, name, lambda *a, **k: calls.append(name) or function(*a, **k))

    counted(prepared, "split_clips")
    counted(setup, "configured_classifier")
    assert Experiment().train(spec).status == "finished"
    assert sorted(calls) == ["configured_classifier", "split_clips"]

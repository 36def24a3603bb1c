"""Runs and the other machines that may work on them; here in one store of one machine, so in seconds."""

import json

import pytest

from mer.cli import main
from mer.experiments.experiment import Experiment
from mer.experiments.prepared import Spec, prepare
from mer.runs.run import TakenError, owner
from mer.runs.store import RunStore
from mer.training.loop import Callback
from mer.utils.errors import DataError, RunError
from tests.run_helpers import tiny_config
from tests.tiny_backbone import tiny_zoo

ELSEWHERE = json.dumps({"host": "elsewhere", "pid": 1, "born": 0})


@pytest.fixture(autouse=True)
def tiny_in_the_zoo():
    with tiny_zoo():
        yield


@pytest.fixture
def runs(runs_home):
    return RunStore.open()


@pytest.fixture
def of_elsewhere(runs, song_corpus):
    """A run that another machine recorded; `of_elsewhere(status, data=...)`."""

    def make(status, data=song_corpus):
        run_id = runs.create(
            "one", Spec(data=str(data), config=tiny_config(backbone="tiny", epochs=2)).to_dict()
        )
        runs.start(run_id)
        runs.tag(run_id, {"mer.owner": ELSEWHERE, "mer.maker": ELSEWHERE})
        if status == "queued":
            runs.client.update_run(run_id, status="SCHEDULED")
        elif status != "running":
            runs.finish(run_id, status)
        return run_id

    return make


class At(Callback):
    """Does something at the end of an epoch."""

    def __init__(self, epoch, act):
        self.epoch, self.act = epoch, act

    def on_epoch(self, state):
        if state.epoch == self.epoch:
            self.act()


def stop():
    raise KeyboardInterrupt


def test_clips_that_are_not_on_this_machine_are_said_in_one_line_with_the_remedy(of_elsewhere, runs, capsys):
    run_id = of_elsewhere("stopped", "/music/on/another/machine")
    assert main(["runs", "resume", run_id]) == 2
    said = capsys.readouterr().err
    assert said == (
        f"error: /music/on/another/machine, the clips of run {run_id[:8]}, is not on this machine (it was "
        "begun on elsewhere); put a copy or a link there, or resume the run where they are\n"
    )
    assert (runs.get(run_id).status, runs.get(run_id).turn) == ("stopped", 0)
    with pytest.raises(DataError):
        Experiment().resume(run_id)


def test_a_run_that_waits_its_turn_on_another_machine_is_left_to_it(of_elsewhere, runs):
    run_id = of_elsewhere("queued")
    with pytest.raises(RunError, match="is queued; only an unfinished, idle run can be resumed"):
        Experiment().resume(run_id)
    with pytest.raises(TakenError, match="waits on elsewhere; cancel it before you start it here"):
        Experiment().work(run_id)
    assert runs.get(run_id).tags["mer.owner"] == ELSEWHERE


@pytest.mark.promise("If several processes resume a run at once, one gets it, and the others leave it alone.")
def test_a_run_that_another_process_took_on_meanwhile_is_not_begun(of_elsewhere, runs, monkeypatch):
    run_id = of_elsewhere("stopped")
    seen = runs.get(run_id)

    def prepare_slowly(spec, **how):
        runs.take(seen)  # by another process, while this one still reads clips
        return prepare(spec, **how)

    monkeypatch.setattr("mer.experiments.setup.prepare", prepare_slowly)
    with pytest.raises(TakenError, match="was taken over by another process"):
        Experiment().resume(run_id)
    assert (runs.get(run_id).status, runs.get(run_id).turn) == ("stopped", 1)


def test_a_run_that_was_taken_away_ends_here_and_says_nothing_of_itself(runs, song_corpus):
    def take():
        runs.tag(runs.active()[0].id, {"mer.owner": ELSEWHERE, "mer.reason": "as the other says"})

    spec = Spec(data=str(song_corpus), config=tiny_config(backbone="tiny", epochs=500, patience=0))
    with pytest.raises(TakenError, match="was taken over by elsewhere; it continues there"):
        Experiment(callbacks=[At(2, take)]).train(spec)
    run = runs.runs()[0]
    assert (run.status, run.reason) == ("running", "as the other says")
    runs.delete(run.id)


def test_a_stopped_run_sends_its_newest_state_and_a_local_store_is_sent_none(runs, song_corpus, monkeypatch):
    sent = []
    monkeypatch.setattr(RunStore, "send_state", lambda self, run_id, path, epoch: sent.append(epoch))
    spec = Spec(data=str(song_corpus), config=tiny_config(backbone="tiny", epochs=9))
    Experiment(callbacks=[At(3, stop)]).train(spec)
    assert sent == []
    monkeypatch.setattr(RunStore, "shared", True)
    for name in ("fetch_state", "drop_state"):
        monkeypatch.setattr(RunStore, name, lambda self, *words: False)
    Experiment(callbacks=[At(3, stop)]).train(spec)
    assert sent == [1, 3]  # the first at once, then none for a minute, and the last at the end


def test_a_run_shows_on_which_machine_it_is(of_elsewhere, capsys):
    assert main(["runs", "show", of_elsewhere("running")]) == 0
    assert "machine" in capsys.readouterr().out


def test_a_run_at_work_elsewhere_does_not_hold_up_this_machines_store(runs, capsys):
    run_id = runs.create("one", {})
    runs.start(run_id)
    assert main(["store", "prune", "--all"]) == 2
    runs.tag(run_id, {"mer.owner": ELSEWHERE})
    capsys.readouterr()
    assert main(["store", "prune", "--all"]) == 0


def test_an_owner_is_told_from_a_later_process_with_its_number(runs):
    run_id = runs.create("one", {})
    runs.start(run_id)
    runs.tag(run_id, {"mer.owner": json.dumps(json.loads(owner()) | {"born": 0})})
    with pytest.raises(TakenError):
        runs.stop_requested(run_id)

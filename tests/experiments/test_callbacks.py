"""What the run store learns of a run: metrics, time left, progress before the first step; and stops."""

from types import SimpleNamespace

import pytest

from mer.experiments import callbacks
from mer.experiments.callbacks import LogMetrics, Reporter
from mer.runs.store import RunStore
from mer.training.loop import Step
from mer.utils.errors import Stop
from mer.utils.progress import ProgressReport


@pytest.fixture
def runs(runs_home):
    return RunStore.open()


@pytest.fixture
def run_id(runs):
    return runs.create("one", {"data": "demo"})


@pytest.fixture
def clock(monkeypatch):
    """Time that stands still until it is moved."""

    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(callbacks, "time", clock)
    return clock


def step(done, total=10):
    return Step(epoch=1, done=done, total=total, loss=1.0, accuracy=0.5)


def test_the_time_left_is_that_of_the_steps_so_far(runs, run_id, clock):
    log = LogMetrics(runs, run_id)
    for done in (1, 2, 3):
        log.on_step(step(done))
        clock.now += 2
    log.flush()
    assert runs.history(run_id, "seconds_left") == [(2, 16.0), (3, 14.0)]


def test_a_resumed_run_counts_from_where_it_went_on(runs, run_id, clock):
    log = LogMetrics(runs, run_id)
    log.on_step(step(6))
    clock.now += 3
    log.on_step(step(7))
    log.flush()
    assert runs.history(run_id, "seconds_left") == [(7, 9.0)]


def stage(runs, run_id):
    return ProgressReport.read(runs.get(run_id).tags["mer.stage"])


def test_the_first_step_says_how_many_there_will_be_and_ends_the_stage_before(runs, run_id, clock):
    Reporter(runs, run_id).on_embed(32, 120)
    assert stage(runs, run_id) == ProgressReport("computing features", 32, 120)
    assert runs.get(run_id).steps is None
    LogMetrics(runs, run_id).on_step(step(1))
    assert runs.get(run_id).tags["mer.stage"] == ""
    assert runs.get(run_id).steps == 10


def test_progress_is_written_once_in_a_while_and_told_each_time(runs, run_id, clock):
    told = []
    report = Reporter(runs, run_id, notify=lambda *words: told.append(words), every=0.5)
    report("preparing clips", 1, 9)
    report("preparing clips", 2, 9)
    assert stage(runs, run_id) == ProgressReport("preparing clips", 1, 9)
    assert told == [("preparing clips", 1, 9), ("preparing clips", 2, 9)]
    clock.now += 0.5
    report("preparing clips", 3, 9)
    assert stage(runs, run_id).done == 3


@pytest.mark.parametrize("work", ["preparing clips", "computing features"])
def test_a_run_is_stopped_on_request_before_it_trains(runs, run_id, work):
    report = Reporter(runs, run_id, every=0)
    report(work, 32, 120)
    runs.request_stop(run_id)
    with pytest.raises(Stop, match=rf"stopped on request \({work}\)"):
        report(work, 33, 120)


def test_a_run_is_stopped_on_request_while_it_trains(runs, run_id):
    runs.request_stop(run_id)
    with pytest.raises(Stop, match="stopped on request in epoch 1"):
        Reporter(runs, run_id).on_step(step(3))


def test_each_report_is_a_chance_for_a_heartbeat(runs, run_id):
    beats = []
    report = Reporter(runs, run_id, heartbeat=SimpleNamespace(beat=lambda: beats.append(1)))
    report("preparing clips", 1, 2)
    report.on_embed(1, 2)
    report.on_step(step(1))
    assert len(beats) == 3

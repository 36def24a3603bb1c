"""What the training loop tells the run store: figures, the time left, what is done before the first step."""

import pytest

from mer.experiments import callbacks
from mer.experiments.callbacks import LogFigures, StopOnRequest
from mer.runs.store import RunStore
from mer.training.loop import Step, Stop


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
    log = LogFigures(runs, run_id)
    for done in (1, 2, 3):
        log.on_step(step(done))
        clock.now += 2
    log.flush()
    assert runs.history(run_id, "seconds_left") == [(2, 16.0), (3, 14.0)]


def test_a_resumed_run_counts_from_where_it_went_on(runs, run_id, clock):
    log = LogFigures(runs, run_id)
    log.on_step(step(6))
    clock.now += 3
    log.on_step(step(7))
    log.flush()
    assert runs.history(run_id, "seconds_left") == [(7, 9.0)]


def test_the_first_step_says_how_many_there_will_be_and_ends_the_stage_before(runs, run_id, clock):
    log = LogFigures(runs, run_id)
    clock.now += 1
    log.on_embed(32, 120)
    assert runs.get(run_id).tags["mer.stage"] == "computing features: 32 of 120"
    assert runs.get(run_id).steps is None
    log.on_step(step(1))
    assert runs.get(run_id).tags["mer.stage"] == ""
    assert runs.get(run_id).steps == 10


def test_features_are_told_of_a_few_times_a_second_at_most(runs, run_id, clock):
    log = LogFigures(runs, run_id, every=0.5)
    clock.now += 1
    log.on_embed(1, 9)
    log.on_embed(2, 9)
    assert runs.get(run_id).tags["mer.stage"] == "computing features: 1 of 9"


def test_a_run_is_stopped_on_request_while_its_features_are_computed(runs, run_id):
    watch = StopOnRequest(runs, run_id, every=0)
    watch.on_embed(32, 120)
    runs.request_stop(run_id)
    with pytest.raises(Stop, match="32 windows of 120"):
        watch.on_embed(32, 120)

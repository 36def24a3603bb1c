"""The order of active runs, and when a queued one is likely to start."""

import json

import pytest

from mer.runs.run import Run
from mer.runs.turns import in_order, likely_start, queue_before


def run_of(name, status="queued", *, started=0.0, host="here", backbone="small", ended=None, **more):
    tags = {"mer.maker": json.dumps({"host": host})} | more.pop("tags", {})
    spec = {"data": "demo", "config": {"train": {"backbone": backbone}}}
    return Run(name, name, status, started, ended, spec, more.pop("metrics", {}), tags=tags, **more)


def at_work(name="w", *, left=None, began=0.0, **more):
    metrics = {} if left is None else {"seconds_left": left}
    return run_of(name, "running", metrics=metrics, tags={"mer.began": str(began)}, **more)


def done(seconds, **more):
    return run_of("d", "finished", ended=100.0, tags={"mer.worked": str(seconds)}, **more)


def test_runs_at_work_come_first_then_the_queue_then_interrupted_ones():
    runs = [run_of("b", started=2), run_of("i", "interrupted"), run_of("a", started=1), at_work(started=9)]
    assert [run.id for run in in_order(runs)] == ["w", "a", "b", "i"]


def test_each_machine_has_a_queue_of_its_own():
    first, other, last = run_of("a", started=1), run_of("o", started=2, host="there"), run_of("b", started=3)
    cluster = run_of("c", started=0, tags={"mer.needs": "{}"})
    runs = [last, other, first, cluster, at_work()]
    assert [run.id for run in queue_before(last, runs)] == ["a"]
    assert queue_before(other, runs) == []
    assert likely_start(cluster, runs, slots=1, now=0) is None


@pytest.mark.parametrize(("slots", "seconds"), [(1, 30 + 20), (2, 20), (3, 0)])
def test_a_queued_run_starts_when_those_before_it_are_done(slots, seconds):
    last = run_of("b", started=3)
    runs = [last, run_of("a", started=1), at_work(left=30.0), done(20.0)]
    assert likely_start(last, runs, slots=slots, now=0) == seconds


def test_a_run_that_tells_no_time_left_is_taken_to_need_as_long_as_the_last_one_alike():
    last = run_of("b", started=3)
    runs = [last, at_work(began=100.0), done(20.0), done(50.0)]
    assert likely_start(last, runs, slots=1, now=105.0) == 15.0
    assert likely_start(last, runs, slots=1, now=200.0) == 0.0


def test_without_a_run_alike_nobody_knows():
    last = run_of("b", started=3)
    assert likely_start(last, [last, at_work(), done(20.0, backbone="large")], slots=1, now=0) is None

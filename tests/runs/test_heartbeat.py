"""Heartbeats: how a run on another machine is known to be alive."""

import json
import threading
import time

import pytest

from mer.runs import heartbeat
from mer.runs.heartbeat import EVERY, Heartbeat
from mer.runs.run import SILENCE, TakenError, owner
from mer.runs.store import RunStore


@pytest.fixture
def runs(runs_home):
    return RunStore.open()


@pytest.fixture
def begun(runs):
    """begun(age, **owner) records a run at work whose last sign of life is that old; returns its id."""

    def begin(age, **changes):
        run_id = runs.create("one", {})
        runs.start(run_id)
        tags = {"mer.owner": json.dumps(json.loads(owner()) | changes)}
        runs.tag(run_id, tags | ({} if age is None else {"mer.beat": f"{time.time() - age:.0f}"}))
        return run_id

    return begin


ELSEWHERE = {"host": "elsewhere", "pid": 1, "born": 0}


@pytest.mark.promise("A run that died on another machine is shown as interrupted.")
def test_a_run_of_another_machine_is_interrupted_when_its_signs_end(runs, begun):
    assert runs.get(begun(SILENCE - 10, **ELSEWHERE)).status == "running"
    assert runs.get(begun(SILENCE + 10, **ELSEWHERE)).status == "interrupted"


def test_a_run_that_waits_on_another_machine_is_interrupted_when_its_signs_end(runs, begun):
    run_id = begun(SILENCE + 10, **ELSEWHERE)
    runs.client.update_run(run_id, status="SCHEDULED")
    assert runs.get(run_id).status == "interrupted"


def test_a_run_of_an_older_mer_on_another_machine_is_believed_to_run(runs, begun):
    run_id = begun(None, **ELSEWHERE)
    runs.client.delete_tag(run_id, "mer.beat")
    assert runs.get(run_id).status == "running"


def test_on_its_own_machine_the_process_counts_and_not_the_signs(runs, begun):
    assert runs.get(begun(SILENCE + 1000)).status == "running"
    assert runs.get(begun(0, pid=2**22 + 1)).status == "interrupted"


def test_another_machine_of_the_same_name_is_another(runs, begun):
    assert runs.get(begun(0, boot="another", pid=2**22 + 1)).status == "running"


@pytest.mark.parametrize("text", ["", "soon", "nan"])
def test_a_sign_that_cannot_be_read_is_none(runs, begun, text):
    run_id = begun(0, **ELSEWHERE)
    runs.tag(run_id, {"mer.beat": text})
    assert runs.get(run_id).status == "running"


def test_the_store_is_written_to_once_in_a_while_for_each_run_at_work(runs, monkeypatch):
    written, clock = [], [0.0]
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(RunStore, "beat", lambda self, run_id: written.append(run_id))
    beats = Heartbeat(runs)
    with beats.of("a fold"), beats.of("all folds"), beats.of("a fold"):
        for _ in range(round(10 * EVERY)):
            clock[0] += 1
            beats.beat()
    assert sorted(written) == ["a fold"] * 10 + ["all folds"] * 10
    clock[0] += 2 * EVERY
    beats.beat()
    assert len(written) == 20


def test_a_thread_gives_them_while_the_work_says_nothing(runs, monkeypatch):
    given = threading.Event()
    monkeypatch.setattr(heartbeat, "EVERY", 0.05)
    monkeypatch.setattr(RunStore, "beat", lambda self, run_id: given.set())
    beats = Heartbeat(runs)
    with beats.of("one"), beats.in_background():
        assert given.wait(5)
    assert "heartbeat" not in {thread.name for thread in threading.enumerate()}


def test_whoever_works_on_a_run_that_another_took_is_told_when_it_looks(runs, begun):
    run_id = begun(0)
    assert not runs.stop_requested(run_id)
    runs.tag(run_id, {"mer.owner": json.dumps(ELSEWHERE)})
    with pytest.raises(TakenError, match="was taken over by elsewhere; it continues there"):
        runs.stop_requested(run_id)


def test_a_run_is_taken_on_once_for_each_time_it_was_seen_idle(runs):
    run_id = runs.create("one", {})
    runs.finish(run_id, "failed")
    seen = runs.get(run_id)
    runs.take(seen)
    with pytest.raises(TakenError, match="was taken over by another process"):
        runs.take(seen)
    runs.take(runs.get(run_id))
    assert runs.get(run_id).turn == 2


def test_a_run_whose_process_gives_signs_again_is_left_to_it(runs, begun):
    run_id = begun(SILENCE + 10, **ELSEWHERE)
    seen = runs.get(run_id)
    assert seen.status == "interrupted"
    runs.beat(run_id)
    with pytest.raises(TakenError, match="was taken over by another process on elsewhere"):
        runs.take(seen)


def test_the_database_itself_refuses_who_comes_a_moment_later(runs, monkeypatch):
    run_id = runs.create("one", {})
    runs.finish(run_id, "failed")
    seen = runs.get(run_id)
    runs.take(seen)
    monkeypatch.setattr(RunStore, "get", lambda self, name: seen)  # looked before the other had written
    monkeypatch.setattr("mer.runs.store.owner", lambda: json.dumps(ELSEWHERE))
    with pytest.raises(TakenError, match="was taken over by another process"):
        runs.take(seen)

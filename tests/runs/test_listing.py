"""All runs of a server: seldom asked for in full, and what changes is seen all the same."""

from dataclasses import replace

import pytest

from mer.runs import listing
from mer.runs.listing import FULL, NEWEST, Listing
from mer.runs.run import ACTIVE, Run


class Server:
    """Runs by id, and how many records were asked for."""

    def __init__(self, count):
        self.runs, self.told = {}, 0
        for number in range(count):
            self.set(f"run {number}", "finished", started=float(number))

    def set(self, run_id, status, started=None):
        before = self.runs.get(run_id)
        started = before.started if before else started
        self.runs[run_id] = Run(run_id, run_id, status, started, None, {}, {})

    def search(self, condition, most=None):
        found = sorted(self.runs.values(), key=lambda run: -run.started)[:most]
        self.told += len(found)
        return found

    def active(self):
        found = [run for run in self.runs.values() if run.status in ACTIVE]
        self.told += len(found)
        return found

    def one(self, run_id):
        self.told += 1
        return self.runs.get(run_id)


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(listing.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def server():
    return Server(300)


@pytest.fixture
def seen(server, clock):
    found = Listing(server.search, server.active, server.one)
    assert found.runs() == sorted(server.runs.values(), key=lambda run: -run.started)
    server.told = 0
    return found


def test_between_two_looks_at_all_few_are_asked_for(seen, server):
    for _ in range(10):
        seen.runs()
    assert server.told == 10 * NEWEST


@pytest.mark.parametrize("status", ["queued", "running", "interrupted"])
def test_an_old_run_that_goes_on_and_ends_is_seen_at_once(seen, server, status):
    for now in (status, "stopped", "running", "finished"):
        server.set("run 3", now)
        assert {run.id: run.status for run in seen.runs()}["run 3"] == now


def test_a_new_run_that_has_ended_already_is_seen_and_is_the_first(seen, server):
    server.set("new", "failed", started=1000.0)
    assert seen.runs()[0] == server.runs["new"]


def test_an_active_run_that_is_deleted_is_gone_at_once(seen, server):
    server.set("run 3", "running")
    seen.runs()
    del server.runs["run 3"]
    assert "run 3" not in {run.id for run in seen.runs()}


def test_any_other_change_is_seen_within_a_minute(seen, server, clock):
    del server.runs["run 3"]
    server.runs["run 4"] = replace(server.runs["run 4"], name="another")
    clock[0] += FULL
    found = {run.id: run.name for run in seen.runs()}
    assert "run 3" not in found
    assert found["run 4"] == "another"


def test_what_this_process_deleted_is_gone_at_once(seen, server):
    del server.runs["run 3"]
    seen.forget("run 3")
    assert "run 3" not in {run.id for run in seen.runs()}


@pytest.mark.parametrize(
    ("validation", "words"), [(0.1, "the one with the lowest validation loss"), (0.0, "the first")]
)
def test_a_cross_validation_says_which_fold_has_the_checkpoint(validation, words):
    config = {"split": {"validation": validation}}
    assert Run("a", "a", "finished", 0.0, 1.0, {"config": config}, {}).kept_fold == words

"""The driver of a run on Ray when workers are lost, or when Ray does not end them; Ray is simulated."""

import os
import threading
import time
from types import SimpleNamespace

import pytest

from mer.jobs import ray_driver
from mer.jobs.ray_cluster import Needs
from mer.runs.run import state_path
from mer.utils.files import write_atomic

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")
RUN = "0123456789abcdef0123456789abcdef"


class PlayedRay:
    """Simulates reservations, workers that are lost, and calls that go on after their workers were ended."""

    def __init__(self, monkeypatch):
        self.states, self.at_work, self.killed, self.lost = [], [], [], ""
        monkeypatch.setattr(ray, "wait", self.wait)
        monkeypatch.setattr(ray, "get", self.get)
        monkeypatch.setattr(ray, "kill", self.killed.append)
        monkeypatch.setattr(ray.util, "placement_group", self.reserve)
        monkeypatch.setattr(ray.util, "placement_group_table", lambda group: {"state": self.states[group]})
        monkeypatch.setattr(ray.util, "remove_placement_group", self.remove)
        self.stuck = False

    def wait(self, calls, **options):
        done = list(calls) if self.lost else []
        return done, list(self.at_work)

    def get(self, call):
        raise ray.exceptions.RayError(self.lost)

    def reserve(self, bundles, strategy):
        self.states.append("CREATED")
        return len(self.states) - 1

    def remove(self, group):
        if not self.stuck:
            self.states[group] = "REMOVED"


@pytest.fixture
def played(monkeypatch):
    monkeypatch.setattr(ray_driver, "END_SECONDS", 0.3)
    return PlayedRay(monkeypatch)


@pytest.fixture
def said():
    return []


@pytest.fixture
def run(played, said, own_home):
    driver = SimpleNamespace(
        needs=Needs(2), say=said.append, leaving=threading.Event(), stop_requested=lambda run_ids: False
    )
    return with_workers(ray_driver.DrivenRun(driver, RUN))


def with_workers(run):
    run.workers, run.calls = ["first", "second"], ["work of the first", "work of the second"]
    return run


def lose_a_worker(run, played):
    """The driver looks at a run whose node has died."""
    played.lost = "the node died"
    with_workers(run).poll()
    played.lost = ""


def test_remaining_workers_are_ended_and_their_resources_released(run, played, said):
    run.end_workers()
    assert (played.killed, played.states, said) == (["first", "second"], ["REMOVED"], [])
    assert (run.workers, run.calls) == ([], [])


@pytest.mark.parametrize(
    ("stuck", "at_work", "words"),
    [
        (True, [], "Ray still has 0 of its workers (reservation: CREATED)"),
        (False, ["work of the second"], "Ray still has 1 of its workers (reservation: REMOVED)"),
    ],
)
@pytest.mark.promise(
    "If Ray does not release workers within 30 s, the driver reports it and ends.",
    measured="stand-in for Ray",
)
def test_resources_that_ray_keeps_are_waited_for_and_reported(run, played, said, stuck, at_work, words):
    played.stuck, played.at_work = stuck, at_work
    began = time.monotonic()
    run.end_workers()
    assert time.monotonic() - began >= 0.3
    assert len(said) == 1
    assert words in said[0]
    assert said[0].endswith("see 'ray status'")


@pytest.mark.promise(
    "After the fourth loss of workers without a new epoch the run has failed.", measured="stand-in for Ray"
)
def test_workers_that_are_lost_again_and_again_without_an_epoch_end_the_run(run, played, said):
    for _ in range(ray_driver.LOSSES):
        lose_a_worker(run, played)
        assert run.outcome is None
    lose_a_worker(run, played)
    assert run.outcome["status"] == "failed"
    assert "lost 4 times without an epoch between; the last: RayError: the node died" in run.outcome["error"]
    assert played.states == ["REMOVED"] * 4


def test_an_epoch_between_two_losses_resets_the_count(run, played):
    for epoch in range(3 * ray_driver.LOSSES):
        write_atomic(state_path(RUN), f"after {epoch} epochs")
        os.utime(state_path(RUN), ns=(epoch + 1, epoch + 1))
        lose_a_worker(run, played)
    assert run.outcome is None

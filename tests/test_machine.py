"""What the machine has, and what each run may take of it."""

import pytest

from mer import machine
from mer.errors import ConfigError
from mer.machine import cores, slots


def test_slots_are_set_by_the_environment_and_checked(monkeypatch):
    monkeypatch.delenv("MER_SLOTS", raising=False)
    assert slots() >= 1
    monkeypatch.setenv("MER_SLOTS", "3")
    assert slots() == 3
    for bad in ("0", "many", "-1"):
        monkeypatch.setenv("MER_SLOTS", bad)
        with pytest.raises(ConfigError, match=f"MER_SLOTS='{bad}' should be a whole number from 1"):
            slots()


@pytest.mark.parametrize(("mine", "runs", "each"), [(8, "1", 8), (8, "2", 4), (8, "3", 2), (2, "5", 1)])
def test_runs_share_the_cores(mine, runs, each, monkeypatch):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: range(mine), raising=False)
    monkeypatch.setenv("MER_SLOTS", runs)
    assert cores() == each

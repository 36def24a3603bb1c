"""What the machine has, and what each run may take of it."""

import os
import subprocess
import sys

import pytest

from mer.utils import machine
from mer.utils.errors import ConfigError
from mer.utils.machine import cores, keep_memory, slots


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


FAULTS = """
import resource, sys, numpy
from mer.utils.machine import keep_memory
if sys.argv[1] == "keep" and not keep_memory():
    sys.exit("no")
for _ in range(50):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    numpy.ones(6_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_freed_memory_is_reused_without_the_kernel():
    """48 MB are 11,700 pages, or a few huge ones."""

    def faults(how):
        done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True)
        if done.stderr.strip() == "no":
            pytest.skip("not with this C library")
        return int(done.stdout)

    assert 4 * faults("keep") < faults("hand back")


def test_without_support_of_the_c_library_nothing_changes(monkeypatch):
    monkeypatch.setattr(machine.sys, "platform", "darwin")
    assert keep_memory() is False


# Loads the OpenMP library that torch brings along, as `import torch` does, which takes seconds.
OPENMP = """
import ctypes, importlib.util, pathlib, sys
for folder in importlib.util.find_spec("torch").submodule_search_locations:
    places = pathlib.Path(folder), pathlib.Path(folder).parent / "torch.libs"
    for path in (path for place in places for path in place.rglob("libgomp*")):
        ctypes.CDLL(str(path))
"""
DASHBOARD = "import streamlit_app" + OPENMP
COMMAND = (
    """
import contextlib
from mer.cli import main
with contextlib.suppress(SystemExit):
    main(["--help"])
"""
    + OPENMP
)


@pytest.mark.parametrize(
    ("code", "policy", "spins"),
    [(DASHBOARD, {}, 0), (COMMAND, {}, 10_000), (COMMAND, {"OMP_WAIT_POLICY": "passive"}, 0)],
    ids=["dashboard", "command", "command of the dashboard"],
)
@pytest.mark.promise("Threads that wait for each other leave the core to other processes.")
def test_waiting_threads_sleep(code, policy, spins):
    ours = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {key: value for key, value in os.environ.items() if key not in ours} | policy
    environment |= {"OMP_DISPLAY_ENV": "verbose"}  # the library of threads tells what it goes by
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("torch has another OpenMP here than GNU's")
    assert f"GOMP_SPINCOUNT = '{spins}'" in done.stderr

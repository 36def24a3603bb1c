"""Slots, which limit how many runs this machine works on at a time, and the queue for them.

A slot is a file lock. The right to work on a run is one too. The system releases both when a process ends,
for whatever reason.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mer.runs.run import TakenError
from mer.runs.store import RunStore
from mer.utils.errors import RunError, Stop
from mer.utils.files import home, writing
from mer.utils.machine import slots

__all__ = ["hold_run", "hold_slot"]

PATIENCE = 1.0  # s between two looks for a free slot


@contextmanager
def hold_run(run_id: str) -> Iterator[None]:
    """Hold the right to work on a run; raises RunError if another process of this machine has it."""
    lock = FileLock(_lock_folder() / f"run-{run_id}.lock")
    try:
        with lock.acquire(timeout=0):
            yield
    except Timeout as error:
        raise RunError(f"run {run_id[:8]} is worked on by another process; see 'mer runs list'") from error


@contextmanager
def hold_slot(runs: RunStore, run_id: str, waiting: Callable[[], None]) -> Iterator[None]:
    """Wait in the queue for one of this machine's slots, and hold it.

    Parameters
    ----------
    runs, run_id
        The run, which must be queued.
    waiting
        Called about once a second while there is no free slot. It may raise to end the wait.

    Raises
    ------
    Stop
        The run was cancelled while it waited.
    TakenError
        Another process has taken over the run.
    """
    locks = [FileLock(_lock_folder() / f"slot-{number}.lock") for number in range(slots())]
    while True:
        _require_queued(runs, run_id)
        for lock in locks if _is_next(runs, run_id) else []:
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            try:
                yield
            finally:
                lock.release()
            return
        waiting()
        time.sleep(PATIENCE)


def _require_queued(runs: RunStore, run_id: str) -> None:
    status = runs.get(run_id).status
    if status == "stopped":
        raise Stop("cancelled")
    if status != "queued":
        raise TakenError(f"run {run_id[:8]} is {status}; it is no longer in the queue")


def _is_next(runs: RunStore, run_id: str) -> bool:
    """True if no run that waits for a slot of this machine was recorded earlier."""
    waiting = [run for run in runs.active() if run.waits_here and not run.needs]
    return not waiting or min(waiting, key=lambda run: (run.started, run.id)).id == run_id


def _lock_folder() -> Path:
    folder = home() / "locks"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder

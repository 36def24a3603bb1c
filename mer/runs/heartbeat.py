"""Heartbeats: a process that works on runs, or waits to, regularly writes the time to their records.

On the machine where a run is worked on, its process is looked up. Other machines see only heartbeats: a run
whose last heartbeat is older than `mer.runs.run.SILENCE`, by the clock of the server, counts as interrupted.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mer.runs.store import RunStore
from mer.utils.errors import StorageError

__all__ = ["EVERY", "Heartbeat"]

EVERY = 25.0  # s between two heartbeats: one write to the store per run


class Heartbeat:
    """Writes the heartbeats of the runs that this process works on."""

    def __init__(self, store: RunStore) -> None:
        self.store, self.runs = store, []
        self.last = time.monotonic()

    @contextmanager
    def of(self, run_id: str) -> Iterator[None]:
        """Write heartbeats of a run within this context. Its record must have a recent heartbeat already."""
        if run_id in self.runs:
            yield
            return
        self.runs.append(run_id)
        try:
            yield
        finally:
            self.runs.remove(run_id)

    def beat(self) -> None:
        """Write a heartbeat if the last is old. Call this every few seconds where no thread does."""
        if time.monotonic() - self.last < EVERY:
            return
        self.last = time.monotonic()
        for run_id in tuple(self.runs):
            self.store.beat(run_id)

    @contextmanager
    def in_background(self) -> Iterator[None]:
        """Write heartbeats from a thread within this context, for work that reports no progress.

        Do not use it around work that is spread over processes. These are forked, which is fast, only while
        there is no other thread (`mer.utils.parallel`).
        """
        done = threading.Event()

        def run() -> None:
            """Write heartbeats until the work is done."""
            while not done.wait(min(EVERY, 1.0)):
                with suppress(StorageError):  # if the server does not answer, the work itself raises
                    self.beat()

        thread = threading.Thread(target=run, daemon=True, name="heartbeat")
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join(timeout=5)

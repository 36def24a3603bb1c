"""Signs of life: a process that works on runs, or waits to, tells the store every so often that it is there.

On the machine that a run is worked on its process is looked for; from others only these signs are seen. A run
of another machine that gave none for `SILENCE` counts as interrupted, by the clock of the server.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mer.runs.store import RunStore
from mer.utils.errors import StorageError

__all__ = ["EVERY", "Beats"]

EVERY = 25.0  # s between two signs: one write to the store a run


class Beats:
    """Gives signs of life of the runs that this process works on."""

    def __init__(self, store: RunStore) -> None:
        self.store, self.runs = store, []
        self.given = time.monotonic()

    @contextmanager
    def of(self, run_id: str) -> Iterator[None]:
        """Count a run among those: its record has a fresh sign already."""
        if run_id in self.runs:
            yield
            return
        self.runs.append(run_id)
        try:
            yield
        finally:
            self.runs.remove(run_id)

    def give(self) -> None:
        """Give a sign if the last one is old; to be called every few seconds where no thread does it."""
        if time.monotonic() - self.given < EVERY:
            return
        self.given = time.monotonic()
        for run_id in tuple(self.runs):
            self.store.beat(run_id)

    @contextmanager
    def by_itself(self) -> Iterator[None]:
        """Signs from a thread, for work that cannot tell how far it is.

        Not around work that is spread over processes: those are forked only while there is no thread
        (`mer.utils.parallel`).
        """
        done = threading.Event()

        def go() -> None:
            while not done.wait(min(EVERY, 1.0)):
                with suppress(StorageError):  # a server that is away: the work itself notices
                    self.give()

        thread = threading.Thread(target=go, daemon=True, name="signs of life")
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join(timeout=5)

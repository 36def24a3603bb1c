"""Lists the runs of a server that has hundreds, without reading each of them every time.

A server on two cores tells of some 200 runs a second. So a page asks for all once a minute; in between for
those that are active, those that no longer are, and the newest, since nothing else changes but by deletion.
"""

import threading
import time
from collections.abc import Callable
from typing import Protocol

from mer.runs.run import ACTIVE, Run

__all__ = ["Listing"]

FULL = 60.0  # s between two looks at all
NEWEST = 25  # runs that may have begun and ended between two looks


class Search(Protocol):
    """Runs of a status, or all runs; at most `most` of them, newest first."""

    def __call__(self, condition: str, most: int | None = None) -> list[Run]: ...


class Listing:
    """The runs as they were last seen. One for all threads of a process."""

    def __init__(
        self, search: Search, active: Callable[[], list[Run]], one: Callable[[str], Run | None]
    ) -> None:
        self.search, self.active, self.one = search, active, one
        self.known: dict[str, Run] = {}
        self.asked, self.lock = float("-inf"), threading.Lock()

    def runs(self) -> list[Run]:
        """All runs, newest first. One that another machine deleted is listed for a minute more at most."""
        with self.lock:
            if time.monotonic() - self.asked >= FULL:
                self.known = {run.id: run for run in self.search("")}
                self.asked = time.monotonic()
            else:
                self._follow()
            return sorted(self.known.values(), key=lambda run: -run.started)

    def _follow(self) -> None:
        found = {run.id: run for run in (*self.search("", NEWEST), *self.active())}
        for run_id in [key for key, run in self.known.items() if run.status in ACTIVE and key not in found]:
            if run := self.one(run_id):
                found[run_id] = run
            else:
                del self.known[run_id]
        self.known |= found

    def forget(self, run_id: str) -> None:
        """Leave out a run that this process deleted."""
        with self.lock:
            self.known.pop(run_id, None)

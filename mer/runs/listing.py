"""Lists the runs of a server that has hundreds, without reading each of them every time.

A server on two cores sends about 200 runs a second. So all runs are read only once a minute. In between, only
the newest runs are read, those that are active, and those that were active before. Other runs do not change,
unless they are deleted.
"""

import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from mer.runs.run import ACTIVE, GoneError, Run
from mer.utils.errors import RunError

__all__ = ["Listing", "matching"]

FULL = 60.0  # s after which all runs are read again
NEWEST = 25  # runs to read in between, in case they began and ended since


class Search(Protocol):
    """Function that returns runs, newest first: all that fulfil an MLflow condition, or at most `most`."""

    def __call__(self, condition: str, most: int | None = None) -> list[Run]: ...


class Listing:
    """The runs as they were last seen. One for all threads of a process."""

    def __init__(
        self, search: Search, active: Callable[[], list[Run]], one: Callable[[str], Run | None]
    ) -> None:
        self.search, self.active, self.one = search, active, one
        self.known: dict[str, Run] = {}
        self.read_at, self.lock = float("-inf"), threading.Lock()

    def runs(self) -> list[Run]:
        """All runs, newest first. A run that another machine deleted stays listed for up to a minute."""
        with self.lock:
            if time.monotonic() - self.read_at >= FULL:
                self.known = {run.id: run for run in self.search("")}
                self.read_at = time.monotonic()
            else:
                self._update()
            return sorted(self.known.values(), key=lambda run: -run.started)

    def _update(self) -> None:
        """Read the newest and the active runs, and those that are no longer active."""
        found = {run.id: run for run in (*self.search("", NEWEST), *self.active())}
        for run_id in [key for key, run in self.known.items() if run.status in ACTIVE and key not in found]:
            if run := self.one(run_id):
                found[run_id] = run
            else:
                del self.known[run_id]
        self.known |= found

    def read_again(self) -> None:
        """Read all runs at the next call, since an older one may be back."""
        self.read_at = float("-inf")

    def forget(self, run_id: str) -> None:
        """Leave out a run that this process deleted."""
        with self.lock:
            self.known.pop(run_id, None)


def matching(runs: Iterable[Run], name: str, *, remedy: str) -> Run:
    """The only run whose id starts with `name`. Raises GoneError if there is none, RunError if several."""
    matches = [run for run in runs if name and run.id.startswith(name)]
    if not matches:
        raise GoneError(f"run {name!r}: there is no such run; {remedy}")
    if len(matches) > 1:
        raise RunError(f"run {name!r}: {len(matches)} runs match; {remedy}")
    return matches[0]

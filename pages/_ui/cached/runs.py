"""Cached lists of runs, and their metrics over time.

Every cache is bounded. Its key includes everything that the result depends on, such as MER_HOME. Callers must
not change a cached object.
"""

import time
from collections.abc import Callable

import streamlit as st

from mer.runs.deleted import deleted_runs as read_deleted_runs
from mer.runs.deleted import size_of
from mer.runs.run import ACTIVE, Run
from mer.runs.store import RunStore
from mer.utils.files import home as mer_home

__all__ = ["active_runs", "all_runs", "bytes_of_deleted", "deleted_runs", "history"]

REREAD = 10.0  # s between two reads of metrics of single steps


def _read(cached: Callable[[str, int], list[Run]]) -> list[Run]:
    """What a cached function returns for this home as it is now; none if there is no store yet."""
    return cached(str(mer_home()), RunStore.open().version()) if RunStore.exists() else []


def all_runs() -> list[Run]:
    """All runs, newest first; none if there is no store yet."""
    return _read(_all_runs)


@st.cache_data(ttl=2, max_entries=8, show_spinner=False)
def _all_runs(home: str, version: int) -> list[Run]:
    return RunStore.open().runs()


def active_runs() -> list[Run]:
    """Runs that are queued, running, stopping or interrupted, newest first."""
    return _read(_active_runs)


@st.cache_data(ttl=1, max_entries=8, show_spinner=False)
def _active_runs(home: str, version: int) -> list[Run]:
    """Shared by all visitors, so that processes are checked once a second."""
    return RunStore.open().active()


def deleted_runs() -> list[Run]:
    """Deleted runs that can be restored, newest first; the folds of a cross-validation are in the list."""
    return _read(_deleted_runs)


@st.cache_data(ttl=30, max_entries=8, show_spinner=False)
def _deleted_runs(home: str, version: int) -> list[Run]:
    return read_deleted_runs(RunStore.open())


def bytes_of_deleted() -> int:
    """Bytes of the files of all deleted runs."""
    return sum(size_of(RunStore.open(), run) for run in deleted_runs())


def history(run: Run, metric: str) -> list[tuple[int, float]]:
    """All (step, value) of a metric.

    It is read again when its newest value changes. Metrics of single steps change all the time: while the run
    is active they are read every 10 s, and in between the newest value is appended.
    """
    if run.status not in ACTIVE:
        return _history(str(mer_home()), run.id, metric, run.ended)
    newest = run.metrics.get(metric)
    if not metric.startswith("step_"):
        return _history(str(mer_home()), run.id, metric, newest)
    points = _history(str(mer_home()), run.id, metric, time.monotonic() // REREAD)
    step = round(run.metrics.get("progress", 0) * (run.steps or 0))
    return [*points, (step, newest)] if points and step > points[-1][0] else points


@st.cache_resource(max_entries=400, show_spinner=False)
def _history(home: str, run_id: str, metric: str, changed: float | None) -> list[tuple[int, float]]:
    return RunStore.open().history(run_id, metric)

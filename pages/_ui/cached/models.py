"""Cached reads of runs and checkpoints. torch is imported only when a predictor is loaded.

Every cache is bounded, and its key holds all that its result depends on, MER_HOME included. Callers never
change a cached object.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from mer.models.card import CARD, Card, find_checkpoints, load_card
from mer.runs.run import ACTIVE, Run
from mer.runs.store import RunStore
from mer.utils.errors import CheckpointError, RunError
from mer.utils.files import home as mer_home

if TYPE_CHECKING:
    from mer.inference.predictor import Listener

__all__ = ["Model", "active_runs", "all_runs", "damaged_models", "history", "models", "predictor"]

REREAD = 10.0  # s between two readings of all steps
SHIPPED = Path(__file__).parents[3] / "checkpoints"


@dataclass(frozen=True, slots=True)
class Model:
    """A checkpoint to predict with, `at` a folder or with a server's run. `key` names it in links."""

    key: str
    at: Path | Run
    card: Card
    own: bool

    @property
    def folder(self) -> Path:
        """Where it is on this machine, fetched if need be. Raises RunError if it is gone, or StorageError."""
        found = RunStore.open().folder(self.at, "checkpoint") if isinstance(self.at, Run) else self.at
        if found is None:
            raise RunError(f"run {self.key} has no checkpoint any more; choose another model")
        return found

    @property
    def title(self) -> str:
        """Backbone and data, and for an own one the run."""
        return f"{self.card.title} · run {self.key}" if self.own else self.card.title

    def changed(self) -> int:
        """When it was last written, so that a cache notices new weights."""
        return (self.folder / CARD).stat().st_mtime_ns


def all_runs() -> list[Run]:
    """All runs, newest first; none where there is no store yet."""
    if not RunStore.exists():
        return []
    store = RunStore.open()
    return _all_runs(str(mer_home()), store.version())


@st.cache_data(ttl=2, max_entries=8, show_spinner=False)
def _all_runs(home: str, version: int) -> list[Run]:
    return RunStore.open().runs()


def active_runs() -> list[Run]:
    """Runs that are queued, running, stopping or interrupted, newest first."""
    if not RunStore.exists():
        return []
    store = RunStore.open()
    return _active_runs(str(mer_home()), store.version())


@st.cache_data(ttl=1, max_entries=8, show_spinner=False)
def _active_runs(home: str, version: int) -> list[Run]:
    """For all who watch: whether a process is still there is looked at once a second."""
    return RunStore.open().active()


def history(run: Run, metric: str) -> list[tuple[int, float]]:
    """All (step, value) of a metric.

    Read again only when it has a new value; figures of single steps, which always have, every few seconds
    while the run is active, with the newest value put at the end in between.
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


def models() -> list[Model]:
    """Shipped checkpoints, then those of own finished runs, newest first."""
    shipped = [Model(folder.name, folder, card, own=False) for folder, card in find_checkpoints(SHIPPED)]
    return shipped + [model for model in _own() if isinstance(model, Model)]


def damaged_models() -> list[str]:
    """What is wrong with those checkpoints of own runs that cannot be used, each with its remedy."""
    return [str(problem) for problem in _own() if isinstance(problem, CheckpointError)]


def _own() -> Iterator[Model | CheckpointError]:
    """The checkpoint of each finished run, or why it cannot be used."""
    known = {run.id: run for run in all_runs()}
    for run in known.values():
        if run.status != "finished" or run.parent:
            continue
        store, keeper = RunStore.open(), known.get(run.checkpoint_run, run)
        folder = store.folder(keeper, "checkpoint", only=CARD)  # weights when they are needed
        try:
            if folder:
                card = _card(str(folder), run.ended)
                yield Model(run.id[:8], keeper if store.shared else folder, card, own=True)
        except CheckpointError as error:
            yield error


@st.cache_data(max_entries=200, show_spinner=False)
def _card(folder: str, ended: float | None) -> Card:
    return load_card(Path(folder))


def predictor(model: Model) -> "Listener":
    """The loaded checkpoint; a few are kept."""
    return _predictor(str(model.folder), model.changed())


@st.cache_resource(max_entries=4, show_spinner="Loading the model; the first time takes a few seconds …")
def _predictor(folder: str, changed: int) -> "Listener":
    from mer.inference.ensemble import open_predictor

    return open_predictor(Path(folder))

"""Cached checkpoints and predictors. torch is imported only when a predictor is loaded."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from mer.data.apart import PARTED
from mer.models.card import CARD, Card, find_checkpoints, load_card
from mer.runs.outcomes import kept_folder
from mer.runs.run import Run
from mer.runs.store import RunStore
from mer.utils.errors import CheckpointError
from pages._ui.cached.runs import all_runs

if TYPE_CHECKING:
    from mer.inference.predictor import Listener

__all__ = ["Model", "damaged_models", "models", "predictor"]

SHIPPED = Path(__file__).parents[3] / "checkpoints"


@dataclass(frozen=True, slots=True)
class Model:
    """A checkpoint to predict with: `at` is its folder, or its run on a server. `key` names it in links."""

    key: str
    at: Path | Run
    card: Card
    own: bool

    @property
    def folder(self) -> Path:
        """Its folder on this machine, fetched if needed. Raises RunError if it is gone, or StorageError."""
        return kept_folder(RunStore.open(), self.at, "checkpoint") if isinstance(self.at, Run) else self.at

    @property
    def title(self) -> str:
        """Backbone and data; for a model trained here also the run."""
        return f"{self.card.title} · run {self.key}" if self.own else self.card.title

    def changed(self) -> int:
        """Time of the last write in ns, so that a cache notices new weights."""
        return (self.folder / CARD).stat().st_mtime_ns


def models() -> list[Model]:
    """Shipped checkpoints, then those of finished runs, newest first.

    Those whose test songs were in training come last.
    """
    shipped = [Model(folder.name, folder, card, own=False) for folder, card in find_checkpoints(SHIPPED)]
    own = [model for model in _own() if isinstance(model, Model)]
    return shipped + sorted(own, key=lambda model: model.card.leak == PARTED)


def damaged_models() -> list[str]:
    """An error message, with the remedy, for each checkpoint of a run that cannot be used."""
    return [str(problem) for problem in _own() if isinstance(problem, CheckpointError)]


def _own() -> Iterator[Model | CheckpointError]:
    """The checkpoint of each finished run, or the error that prevents its use."""
    known = {run.id: run for run in all_runs()}
    for run in known.values():
        if run.status != "finished" or run.parent:
            continue
        store, keeper = RunStore.open(), known.get(run.checkpoint_run, run)
        folder = store.folder(keeper, "checkpoint", only=CARD)  # the weights are fetched when needed
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
    """The loaded checkpoint; the last four are cached."""
    return _predictor(str(model.folder), model.changed())


@st.cache_resource(max_entries=4, show_spinner="Loading the model; the first time takes a few seconds …")
def _predictor(folder: str, changed: int) -> "Listener":
    from mer.inference.ensemble import open_predictor

    return open_predictor(Path(folder))

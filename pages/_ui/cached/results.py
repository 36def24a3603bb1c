"""Cached scores and predictions of finished runs, and their test clips."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from mer.data.apart import PARTED
from mer.data.load import load_dataset
from mer.metrics.comparison import compare
from mer.metrics.verdict import Verdict
from mer.models.card import load_card
from mer.runs import results
from mer.runs.run import Run
from mer.runs.store import RunStore
from mer.utils.errors import DataError, RunError
from mer.utils.files import home as mer_home
from pages._ui.cached.models import Model
from pages._ui.cached.runs import all_runs
from pages._ui.shell.style import members_of, named

__all__ = [
    "SVM",
    "SVM_TITLE",
    "Tested",
    "against",
    "beside",
    "clip_bytes",
    "clip_path",
    "finished_runs",
    "predictions",
    "scores",
    "tested_by",
    "tested_on",
]


SVM, SVM_TITLE = "svm", "SVM on audio statistics"


@dataclass(frozen=True, slots=True)
class Tested:
    """Runs that were tested on the same clips, highest score first.

    They can be ranked, unless their test songs were in training: then all are `leaky`.
    """

    key: str
    runs: tuple[Run, ...]

    @property
    def title(self) -> str:
        """The data set and the size of its test part."""
        run = self.runs[0]
        name = run.tags.get("mer.data_name", "unknown data set") + (" (synthetic)" if run.synthetic else "")
        name += f" (control: {run.control})" if run.control else ""
        name += f" ({PARTED})" if self.leaky else ""
        figures = (
            f"{run.metrics.get('n_clips', 0):.0f} test clips of {run.metrics.get('n_songs', 0):.0f} songs"
        )
        folds = run.spec.get("config", {}).get("split", {}).get("folds")
        return f"{name}: {figures}{f', {folds} folds' if folds else ''}"

    @property
    def leaky(self) -> bool:
        """True if clips of the test songs were in training; such runs are a group of their own."""
        return self.runs[0].leaky

    @property
    def svm(self) -> Run | None:
        """A run with scores of the SVM, if there is one; the SVM's scores are the same for all runs."""
        return next((run for run in self.runs if "svm_song_accuracy" in run.metrics), None)

    def names(self) -> dict[str, str]:
        """Keys and names of the runs, and of the SVM if its predictions are stored."""
        return {run.id: named(run) for run in self.runs} | ({SVM: SVM_TITLE} if self.svm else {})

    def answers(self, key: str) -> list[dict[str, Any]]:
        """The predictions of a run or of the SVM, a row per clip. Raises RunError if they are damaged."""
        if key == SVM:
            return beside(self.svm)
        return predictions(next(run for run in self.runs if run.id == key))


def finished_runs() -> list[Run]:
    """Finished runs with a score, newest first; the folds of a cross-validation count as their parent.

    Runs whose test songs were in training come last, so that none of them is selected before an honest one.
    """
    found = [
        run for run in all_runs()
        if run.status == "finished" and not run.parent and "test_song_accuracy" in run.metrics
    ]  # fmt: skip
    return sorted(found, key=lambda run: run.leaky)


def tested_on(runs: list[Run]) -> list[Tested]:
    """Group runs by their test clips; a run with unknown test clips is a group alone.

    Runs whose test songs were in training have groups of their own, below the others, as have control runs.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(results.test_key(run) or run.id, []).append(run)
    found = [
        Tested(key, tuple(sorted(part, key=lambda run: -run.metrics["test_song_accuracy"])))
        for key, part in groups.items()
    ]
    return sorted(found, key=lambda group: (bool(group.runs[0].control), group.leaky))


def scores(run: Run) -> dict[str, Any] | None:
    """All scores of a finished run. Raises RunError if they are damaged."""
    return _scores(str(mer_home()), run.id, run.ended)


@st.cache_data(max_entries=100, show_spinner=False)
def _scores(home: str, run_id: str, ended: float | None) -> dict[str, Any] | None:
    return results.read_scores(RunStore.open(), run_id)


def predictions(run: Run) -> list[dict[str, Any]]:
    """A row per test clip of a finished run. Raises RunError if they are damaged."""
    return _predictions(str(mer_home()), run.id, run.ended)


def beside(run: Run) -> list[dict[str, Any]]:
    """The predictions of the SVM of a run; empty without one. Raises RunError if they are damaged."""
    return _predictions(str(mer_home()), run.id, run.ended, svm=True)


@st.cache_data(max_entries=30, show_spinner=False)
def _predictions(home: str, run_id: str, ended: float | None, *, svm: bool = False) -> list[dict[str, Any]]:
    read = results.read_baseline if svm else results.read_predictions
    return read(RunStore.open(), run_id)


def against(group: Tested, first: str, second: str) -> str:
    """Whether the second of two runs of a group, or the SVM, is above or below the first, in words."""
    ended = tuple(run.ended for run in group.runs if run.id in (first, second))
    try:
        found = _verdict(str(mer_home()), group.svm and group.svm.id, first, second, ended, group)
    except RunError:
        return "its answers cannot be read"
    return found.words("above", "below")


@st.cache_data(max_entries=300, show_spinner=False)
def _verdict(
    home: str, svm: str | None, first: str, second: str, ended: tuple[float | None, ...], _group: Tested
) -> Verdict:
    rows = [_group.answers(key) for key in (first, second)]
    return compare(*rows, classes=list(rows[0][0]["probabilities"]) if rows[0] else []).verdict


def clip_path(run: Run, clip: str) -> Path:
    """The path of a test clip. Raises DataError if the data set has moved."""
    spec = run.spec
    paths = _paths(spec["data"], spec.get("label_column", "label"), spec.get("song_column", "song"))
    if clip not in paths:
        raise _moved(run, clip)
    return paths[clip]


def clip_bytes(run: Run, clip: str) -> bytes:
    """The bytes of a test clip's audio file. Raises DataError if the data set has moved."""
    try:
        return clip_path(run, clip).read_bytes()
    except OSError as error:
        raise _moved(run, clip) from error


def _moved(run: Run, clip: str) -> DataError:
    return DataError(f"{clip} is no longer in {run.spec['data']}; restore the data set to that place")


def tested_by(run: Run, clip: str) -> Model:
    """The network that was tested on a clip; in a cross-validation, that of its fold. Raises RunError."""
    if run.members and run.spec["config"]["split"]["folds"]:
        raise RunError(
            f"run {run.id[:8]} is an ensemble of cross-validations and has no single network for a clip; "
            f"explain it in one of its members {members_of(run)}"
        )
    store = RunStore.open()
    for part in [*store.children(run.id), run]:
        folder = store.folder(part.id, "checkpoint")
        if folder and any(row["clip"] == clip for row in predictions(part)):
            return Model(part.id[:8], folder, load_card(folder), own=True)
    raise RunError(f"run {run.id[:8]} has no checkpoint that was tested on {clip}; train it again")


@st.cache_resource(max_entries=8, show_spinner=False)
def _paths(data: str, label_column: str, song_column: str) -> dict[str, Path]:
    found = load_dataset(Path(data), label_column=label_column, song_column=song_column)
    return {clip.id: clip.path for clip in found.clips}

"""How the work on a run ended."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mer.runs.run import RESUMABLE, Run
from mer.runs.store import RunStore
from mer.utils.errors import RunError

__all__ = ["Outcome", "finished", "kept_folder"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the work on a run ended.

    Parameters
    ----------
    run_id
        The run.
    status
        "finished" or "stopped". A failure is raised instead.
    metrics
        Its test scores; empty if it was stopped.
    checkpoint
        Path of the checkpoint on this machine, if there is one.
    folds
        The outcomes of its folds, for a cross-validation.
    leak
        Whether its test songs were in training: one of `mer.data.apart.MARKS`.
    """

    run_id: str
    status: str
    metrics: dict[str, float] = field(default_factory=dict)
    checkpoint: str | None = None
    folds: tuple["Outcome", ...] = ()
    leak: str = ""

    @classmethod
    def of(cls, runs: RunStore, run_id: str, metrics: dict[str, float]) -> "Outcome":
        """The outcome of a finished run.

        Parameters
        ----------
        runs
            The store.
        run_id
            Id of the run.
        metrics
            Its test scores.
        """
        folder = runs.folder(run_id, "checkpoint")
        checkpoint = str(folder) if folder else None
        return cls(run_id, "finished", metrics, checkpoint, leak=runs.get(run_id).leak)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `folds` only for a cross-validation, `leak` only if there is a mark."""
        keys = ("run_id", "status", "metrics", "checkpoint")
        data = {key: getattr(self, key) for key in keys} | ({"leak": self.leak} if self.leak else {})
        return data | ({"folds": [fold.to_dict() for fold in self.folds]} if self.folds else {})


def finished(runs: RunStore, run: Run | None) -> Outcome | None:
    """The outcome of a run that is finished and whose results are still there, else None."""
    if not run or run.status != "finished" or runs.folder(run, "evaluation") is None:
        return None
    return Outcome.of(runs, run.id, run.metrics)


def kept_folder(runs: RunStore, run: Run, name: str, *, only: str = "") -> Path:
    """A folder of a run that must exist.

    Parameters
    ----------
    runs
        The store.
    run
        The run.
    name
        "checkpoint" or "evaluation". The checkpoint of a cross-validation is in one of its folds.
    only
        Download only files of this name. Default: all files.

    Raises
    ------
    RunError
        If there is no such folder. The message gives the remedy.
    """
    keeper = runs.get(run.checkpoint_run) if name == "checkpoint" and run.checkpoint_run != run.id else run
    found = runs.folder(keeper, name, only=only)
    if found is None:
        raise RunError(_why_missing(runs, run, keeper, name))
    return found


def _why_missing(runs: RunStore, run: Run, keeper: Run, name: str) -> str:
    """Reason and remedy for a folder that does not exist; `keeper` is the run that should have it."""
    short = run.id[:8]
    if run.status in RESUMABLE:
        return f"run {short} is {run.status} and has no {name} yet; finish it: mer runs resume {short}"
    if run.status != "finished":
        return f"run {short} is {run.status} and has no {name} yet; wait until it is finished"
    again = f"train it again (its command: mer runs show {short})"
    if (place := runs.place_of(keeper)) is None:
        return f"run {short} is finished, but the server keeps no {name} of it; {again}"
    return (
        f"run {short} is finished, but its {name} is gone: {place / name} is missing; restore that folder "
        f"from a backup or from the home that this one was copied from, or {again}"
    )

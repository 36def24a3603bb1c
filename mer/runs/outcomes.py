"""How the work on a run ended."""

from dataclasses import dataclass, field
from typing import Any

from mer.runs.run import Run
from mer.runs.store import RunStore

__all__ = ["Outcome", "finished"]


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
    """

    run_id: str
    status: str
    metrics: dict[str, float] = field(default_factory=dict)
    checkpoint: str | None = None
    folds: tuple["Outcome", ...] = ()

    @classmethod
    def of(cls, runs: RunStore, run_id: str, metrics: dict[str, float]) -> "Outcome":
        """The outcome of a finished run."""
        folder = runs.folder(run_id, "checkpoint")
        return cls(run_id, "finished", metrics, str(folder) if folder else None)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `folds` only for a cross-validation."""
        keys = ("run_id", "status", "metrics", "checkpoint")
        data = {key: getattr(self, key) for key in keys}
        return data | ({"folds": [fold.to_dict() for fold in self.folds]} if self.folds else {})


def finished(runs: RunStore, run: Run | None) -> Outcome | None:
    """The outcome of a run that is finished already, else None."""
    return Outcome.of(runs, run.id, run.metrics) if run and run.status == "finished" else None

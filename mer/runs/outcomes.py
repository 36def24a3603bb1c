"""What became of a run that was worked on."""

from dataclasses import dataclass, field
from typing import Any

from mer.runs.run import Run
from mer.runs.store import RunStore

__all__ = ["Outcome", "finished"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a run. `status` is "finished" or "stopped"."""

    run_id: str
    status: str
    metrics: dict[str, float] = field(default_factory=dict)
    checkpoint: str | None = None
    folds: tuple["Outcome", ...] = ()

    @classmethod
    def of(cls, runs: RunStore, run_id: str, metrics: dict[str, float]) -> "Outcome":
        """That of a finished run; the checkpoint's folder is where this machine has it."""
        folder = runs.folder(run_id, "checkpoint")
        return cls(run_id, "finished", metrics, str(folder) if folder else None)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `folds` only where there are some."""
        keys = ("run_id", "status", "metrics", "checkpoint")
        data = {key: getattr(self, key) for key in keys}
        return data | ({"folds": [fold.to_dict() for fold in self.folds]} if self.folds else {})


def finished(runs: RunStore, run: Run | None) -> Outcome | None:
    """The outcome of a run that has finished already, else None."""
    return Outcome.of(runs, run.id, run.metrics) if run and run.status == "finished" else None

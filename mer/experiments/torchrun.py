"""Trains one run in several processes. The first also prepares, tests and records; the others only train."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mer.experiments.prepared import PreparedData, Spec, prepare
from mer.experiments.setup import PreparedRun, Setup
from mer.runs.run import state_path
from mer.training.distributed import Ranks, together
from mer.training.state import load_state
from mer.utils.errors import Stop

__all__ = ["lead_or_follow"]

T = TypeVar("T")


def lead_or_follow(lead: Callable[[Ranks], T]) -> T | None:
    """Call `lead` in the first of all processes that torchrun started; the others train with it.

    The first process returns the result of `lead`, or raises its exception. The others return None when the
    first has finished, and raise LostError if it ends unexpectedly.
    """
    with together() as ranks:
        if not ranks.first:
            _train_with_first(ranks)
            return None
        result = lead(ranks)
        ranks.send(None)
        return result


def _train_with_first(ranks: Ranks) -> None:
    """Train each run, or fold, that the first process names, until it names none."""
    known: dict[Path, PreparedData] = {}
    while order := ranks.receive():
        if "run" not in order:  # it waits for a slot
            continue
        spec, state = Spec.from_dict(order["spec"]), state_path(order["run"])
        if Path(spec.data) not in known:
            known[Path(spec.data)] = prepare(spec)  # the first process has put it into the store
        data = known[Path(spec.data)]
        try:
            run = PreparedRun(spec, data, data.split(spec.config))
            Setup.of(run).fit(resume=load_state(state), ranks=ranks)
        except Stop:  # the first process has stopped too, and names the next run or none
            continue

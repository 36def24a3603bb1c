"""Several processes that train one run: the first does all the work, the others only train with it."""

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

    Returns what `lead` returned in the first process, and None in the others, which end when it is done.
    Raises what `lead` raises, and LostError in the others.
    """
    with together() as ranks:
        if not ranks.first:
            _follow(ranks)
            return None
        result = lead(ranks)
        ranks.send(None)
        return result


def _follow(ranks: Ranks) -> None:
    """Train with the first process each run, or fold, that it names, until it names none."""
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
        except Stop:  # so did the first process, which names the next run or none
            continue

"""What the other processes do while the first works on a run: train along, and nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mer.experiments.prepared import Material, Spec, prepare
from mer.experiments.setup import Outset
from mer.runs.run import state_path
from mer.training.distributed import Ranks, together
from mer.training.loop import Stop
from mer.training.state import load_state

__all__ = ["lead_or_follow"]

T = TypeVar("T")


def lead_or_follow(lead: Callable[[Ranks], T]) -> T | None:
    """Have the first of all processes that torchrun started `lead`, the others train along.

    What `lead` gives in the first, None in the others; these are let go once it is through. Raises as `lead`
    does, in the others LostError.
    """
    with together() as ranks:
        if not ranks.first:
            _follow(ranks)
            return None
        result = lead(ranks)
        ranks.tell(None)
        return result


def _follow(ranks: Ranks) -> None:
    """Train along with each run, or fold, that the first process tells of, until it tells of none."""
    known: dict[Path, Material] = {}
    while order := ranks.hear():
        spec, state = Spec.from_dict(order["spec"]), state_path(order["run"])
        if Path(spec.data) not in known:
            known[Path(spec.data)] = prepare(spec)  # what the first has put into the store
        material = known[Path(spec.data)]
        try:
            Outset.of(spec.config, material, material.split(spec.config)).fit(
                resume=load_state(state), ranks=ranks
            )
        except Stop:  # so did the first, and says what comes next
            continue

"""Does it matter what a map points at? The deletion curve of Petsiuk, Das and Saenko (RISE, 2018).

What a map calls most important is taken away first; the sooner the network loses its belief, the better the
map. Taken away means set to the mean of the input, as SpecAugment does in training. For comparison the same
map is shifted circularly by chance along both axes: what it takes away then has the same shape and size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

__all__ = ["Deletion", "deletion"]

STEPS = 10


@dataclass(frozen=True, slots=True)
class Deletion:
    """Belief in a class (`curve`, in [0, 1]) as more and more is taken away (`removed`, shares in [0, 1]).

    `random` are the curves of the shifted maps, as many as were drawn.
    """

    removed: tuple[float, ...]
    curve: tuple[float, ...]
    random: tuple[tuple[float, ...], ...]

    @property
    def auc(self) -> float:
        """Area under the curve, in [0, 1]; low if the map points at what matters."""
        return float(np.trapezoid(self.curve, self.removed))

    @property
    def random_auc(self) -> float:
        """Mean area under the curves of the shifted maps."""
        return float(np.trapezoid(self.random, self.removed, axis=1).mean())

    @property
    def verdict(self) -> str:
        """What the curves show, in a sentence."""
        harder = int(np.sum(np.trapezoid(self.random, self.removed, axis=1) > self.auc))
        figures = f"area under the curve {self.auc:.2f}, shifted by chance {self.random_auc:.2f}"
        if self.auc < self.random_auc:
            return f"What the map points at matters: {figures} ({harder} of {len(self.random)} above)."
        return f"The map points at nothing that matters more than other places: {figures}."

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "auc": self.auc,
            "random_auc": self.random_auc,
            "removed": list(self.removed),
            "curve": list(self.curve),
            "random": [list(curve) for curve in self.random],
        }


def deletion(
    maps: torch.Tensor,
    belief: Callable[[torch.Tensor], float],
    *,
    draws: int,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Deletion:
    """The deletion curve of some windows together: of each the same share of its own map is taken away.

    `maps` (n, height, width) lie over what the network sees. `belief` is asked for the probability of the
    class where only some places are left: bool (n, height, width). `draws` is the number of shifted maps.
    """
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    ranks = order.argsort(dim=1).view_as(maps) / maps[0].numel()  # in [0, 1): the share that goes before it
    rng = np.random.default_rng(seed)
    rankings = [ranks, *(_shifted(ranks, rng) for _ in range(draws))]
    removed = np.linspace(0, 1, STEPS + 1)
    curves = np.empty((len(rankings), len(removed)))
    for number, share in enumerate(removed):
        for row, ranking in enumerate(rankings):
            if share in (0, 1) and row:
                curves[row, number] = curves[0, number]  # nothing or everything is the same to all
            else:
                curves[row, number] = belief(ranking >= share)
        if progress:
            progress(number + 1, len(removed))
    curve, *random = (tuple(map(float, values)) for values in curves)
    return Deletion(tuple(map(float, removed)), curve, tuple(random))


def _shifted(ranks: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Each map (n, height, width) shifted circularly by an offset of its own."""
    offsets = rng.integers(ranks.shape[1:], size=(len(ranks), 2)).tolist()
    return torch.stack([rank.roll(offset, dims=(0, 1)) for rank, offset in zip(ranks, offsets, strict=True)])

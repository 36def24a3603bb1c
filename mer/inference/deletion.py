"""Tests whether a relevance map marks what the network uses: the deletion curve (Petsiuk et al., 2018).

Places of the input are removed in the order of their relevance. The faster the probability of the class
falls, the better the map. A removed place is set to the mean of the input, as in SpecAugment. For comparison,
the same map is shifted circularly by a random offset along both axes, so that it removes areas of the same
shape and size.
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
    """Deletion curve of a map, and those of the same map shifted at random.

    Parameters
    ----------
    removed
        Shares of the input that were removed, rising from 0 to 1.
    curve
        Probability of the class at each share, 0 to 1.
    random
        The curve of each shifted map.
    """

    removed: tuple[float, ...]
    curve: tuple[float, ...]
    random: tuple[tuple[float, ...], ...]

    @property
    def auc(self) -> float:
        """Area under the curve, 0 to 1. It is low if the map marks what the network uses."""
        return float(np.trapezoid(self.curve, self.removed))

    @property
    def random_auc(self) -> float:
        """Mean area under the curves of the shifted maps."""
        return float(np.trapezoid(self.random, self.removed, axis=1).mean())

    @property
    def verdict(self) -> str:
        """The conclusion from the curves, in one sentence."""
        higher = int(np.sum(np.trapezoid(self.random, self.removed, axis=1) > self.auc))
        figures = f"area under the curve {self.auc:.2f}, of maps shifted at random {self.random_auc:.2f}"
        if self.auc < self.random_auc:
            return f"The marked places matter: {figures} ({higher} of {len(self.random)} are higher)."
        return f"The marked places matter no more than others: {figures}."

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
    probabilities: Callable[[torch.Tensor], np.ndarray],
    *,
    draws: int,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Deletion:
    """Compute one deletion curve over several windows of a clip.

    At each step, the same share of every window is removed, in the order of the window's own map.

    Parameters
    ----------
    maps
        Relevance at the resolution of the network's input, shape (n, height, width).
    probabilities
        Returns the probability of the class for several versions of the clip, shape (versions,), given which
        places are left in each: bool of shape (versions, n, height, width).
    draws
        Number of shifted maps.
    seed
        Seed of the random shifts.
    progress
        Called with the number of steps done, and of all steps.

    Returns
    -------
    Deletion
        The curve at 11 shares, from 0 to 1.

    References
    ----------
    Petsiuk, Das and Saenko, "RISE: Randomized input sampling for explanation of black-box models", BMVC 2018.
    """
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    ranks = order.argsort(dim=1).view_as(maps) / maps[0].numel()  # in [0, 1): the share removed before it
    rng = np.random.default_rng(seed)
    rankings = torch.stack([ranks, *(_shifted(ranks, rng) for _ in range(draws))])
    removed = np.linspace(0, 1, STEPS + 1)
    curves = np.empty((len(rankings), len(removed)))
    for number, share in enumerate(removed):
        different = rankings[:1] if share in (0, 1) else rankings  # nothing or everything removed: all equal
        curves[:, number] = probabilities(different >= share)
        if progress:
            progress(number + 1, len(removed))
    curve, *random = (tuple(map(float, values)) for values in curves)
    return Deletion(tuple(map(float, removed)), curve, tuple(random))


def _shifted(ranks: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Shift each map of (n, height, width) circularly by its own random offset."""
    offsets = rng.integers(ranks.shape[1:], size=(len(ranks), 2)).tolist()
    return torch.stack([rank.roll(offset, dims=(0, 1)) for rank, offset in zip(ranks, offsets, strict=True)])

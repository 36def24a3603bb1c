"""What it is worth to a score that clips of one song are on both sides of a split."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mer.metrics import bootstrap_interval, wilson_interval

__all__ = ["Leak", "leak_of"]

Rows = list[dict[str, Any]]
Score = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Leak:
    """Two runs that differ in nothing but that the first keeps songs apart, by clip: (score, low, high).

    By clip, since a song of which only some clips are tested has no score of its own. `difference` is how
    much higher the second scores.
    """

    kept: Score
    parted: Score
    difference: Score

    def to_dict(self) -> dict[str, list[float]]:
        """Plain data."""
        return {name: list(score) for name, score in asdict(self).items()}


def leak_of(kept: Rows, parted: Rows) -> Leak:
    """Compare the predictions of a run that kept songs apart with those of one that did not.

    They need not be of the same clips. Intervals resample songs, those tested in both runs in both at once;
    where no song is named (grouping by sound is off in the second run), a clip counts as a song.
    """
    rows = [*kept, *parted]
    right = np.array([row["predicted"] == row["label"] for row in rows], float)
    second = np.arange(len(rows)) >= len(kept)
    songs = [row["song"] or row["clip"] for row in rows]

    def difference(chosen: np.ndarray) -> float:
        sides = [right[chosen][second[chosen] == side] for side in (False, True)]
        return float(sides[1].mean() - sides[0].mean()) if all(map(len, sides)) else 0.0

    everything = np.arange(len(rows))
    return Leak(
        _score(right[~second], songs[: len(kept)]),
        _score(right[second], songs[len(kept) :]),
        (difference(everything), *_spread(difference, right, songs)),
    )


def _score(right: np.ndarray, songs: list[str]) -> Score:
    return float(right.mean()), *bootstrap_interval(lambda chosen: float(right[chosen].mean()), songs)


def _spread(
    difference: Callable[[np.ndarray], float], right: np.ndarray, songs: list[str]
) -> tuple[float, float]:
    """95% interval of a difference; Wilson's spread to either side where all are right, or all wrong."""
    if (right == right[0]).all():
        spread = wilson_interval(0, len(set(songs)))[1]
        return -spread, spread
    return bootstrap_interval(difference, songs)

"""Probabilities that mean what they say: how far off they are, and one number that mends most of it.

Of the clips that are given about 70%, about 70% should be right (DeGroot and Fienberg, 1983). The expected
calibration error (Naeini et al., 2015) is the mean gap between the two. Networks are often too sure, or not
sure enough; dividing their logits by a temperature, fitted on the validation part, mends most of it (Guo et
al., 2017).

A validation part may be small, and clips of one song are alike. So the temperature is a maximum a posteriori
estimate: each song counts once, and without evidence the temperature is 1. Where a network's probabilities
are right as they are, its expected cost is about n I**2 / (2 (n I + SPREAD**-2)**2) nats a song, where I is
the Fisher information of one of the n songs about the temperature's logarithm. That is largest where
n I = SPREAD**-2, so that no number of songs costs more than about I SPREAD**2 / 8. `SPREAD` keeps it below
a hundredth of a nat for up to ten classes: with normal logits I is at most 1.0 for ten, and 0.65 for five.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mer.metrics.probabilities import softmax

__all__ = [
    "BINS",
    "COLDEST",
    "HOTTEST",
    "SPREAD",
    "calibration",
    "fit_temperature",
    "song_shares",
    "tempered",
]

BINS = 10
SPREAD = 0.25  # of the logarithm of temperatures before any song is seen: 95% lie between 0.61 and 1.63
COLDEST, HOTTEST = 0.25, 4.0  # over five spreads away from 1: only very many songs are evidence for that
GRID = 17  # temperatures to look at first; the middle one is 1
LEAST = 1e-12  # of a probability, so that its logarithm is finite


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Rows of probabilities (n, classes) as if their logits had been divided by `temperature` > 0.

    Above 1 they come closer to each other, below 1 the largest gains. The order within a row stays.
    """
    if temperature == 1:
        return probabilities
    return softmax(np.log(np.maximum(probabilities, LEAST)) / temperature)


def song_shares(songs: Sequence[str]) -> np.ndarray:
    """What each clip counts for (clips,), given its song's name: every song counts 1, shared by its clips."""
    sizes = Counter(songs)
    return np.array([1 / sizes[song] for song in songs])


def fit_temperature(
    truth: np.ndarray, songs: Sequence[str], probabilities: Callable[[float], np.ndarray]
) -> float:
    """The most probable temperature of a network, given its answers to clips that it did not learn from.

    The logarithm of the temperature has a normal prior with mean 0 and deviation `SPREAD`. The likelihood is
    that of one label a song: the log-likelihoods of a song's clips are averaged.

    Parameters
    ----------
    truth
        Class numbers, int of shape (clips,).
    songs
        The song of each clip, or a name of its own where no song is known.
    probabilities
        `probabilities(temperature)` gives the rows (clips, classes) under that temperature.

    Returns
    -------
    float
        In [0.25, 4]; exactly 1 where there are no clips. The same input gives the same temperature.

    References
    ----------
    Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017: the likelihood.

    """
    if not len(truth):
        return 1.0
    shares, clips = song_shares(songs), np.arange(len(truth))

    def loss(logarithm: float) -> float:
        given = probabilities(float(np.exp(logarithm)))[clips, truth]
        return float(-shares @ np.log(np.maximum(given, LEAST)) + 0.5 * (logarithm / SPREAD) ** 2)

    return float(np.exp(_lowest(loss)))


def _lowest(loss: Callable[[float], float]) -> float:
    """The logarithm of a temperature within bounds with the least loss.

    The mean over windows may give it several valleys; the lowest point of a grid shows which one to search.
    """
    from scipy.optimize import minimize_scalar  # takes most of a second to import

    grid = np.linspace(np.log(COLDEST), np.log(HOTTEST), GRID)
    losses = [loss(float(point)) for point in grid]
    best = int(np.argmin(losses))
    bounds = grid[max(best - 1, 0)], grid[min(best + 1, GRID - 1)]
    found = minimize_scalar(loss, bounds=bounds, method="bounded")
    return float(found.x if found.fun < losses[best] else grid[best])


def calibration(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """How sure a classifier is of its answers, and how often it is right.

    `truth` (n,), `probabilities` (n, classes). Returns {error: expected calibration error in [0, 1], bins: a
    list of {low, high, confidence, accuracy, count} for each of ten equal ranges of confidence with clips in
    it}. An answer's confidence is the probability given to it.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    number = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins = [
        {
            "low": k / BINS,
            "high": (k + 1) / BINS,
            "confidence": float(confidence[number == k].mean()),
            "accuracy": float(right[number == k].mean()),
            "count": int((number == k).sum()),
        }
        for k in np.unique(number)
    ]
    gaps = [row["count"] * abs(row["confidence"] - row["accuracy"]) for row in bins]
    return {"error": float(sum(gaps) / len(truth)), "bins": bins}

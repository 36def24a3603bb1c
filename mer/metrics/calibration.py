"""Calibration: measures how well probabilities match the accuracy, and corrects them by a temperature.

Of the answers given with a probability of about 70%, about 70% should be right (DeGroot and Fienberg, 1983).
The expected calibration error (Naeini et al., 2015) is the mean gap between the two. Networks are often
overconfident or underconfident. Dividing their logits by a temperature, fitted on the validation part,
corrects most of that (Guo et al., 2017).

A validation part may be small, and clips of one song are alike. The temperature is therefore a maximum a
posteriori estimate: each song counts once, and without data the temperature is 1. If the network is already
calibrated, fitting costs about n I**2 / (2 (n I + SPREAD**-2)**2) nats a song on average, where I is the
Fisher information of one of the n songs about the logarithm of the temperature. The cost is highest at
n I = SPREAD**-2, so it never exceeds about I SPREAD**2 / 8. `SPREAD` keeps it below 0.01 nat for up to ten
classes: with normally distributed logits, I is at most 1.0 for ten classes and 0.65 for five.
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
SPREAD = 0.25  # of the prior of log temperature; 95% of temperatures lie between 0.61 and 1.63
COLDEST, HOTTEST = 0.25, 4.0  # over five spreads from 1; only very many songs could justify more
GRID = 17  # temperatures tried first; the middle one is 1
LEAST = 1e-12  # lower probabilities count as this one, so that logarithms are finite


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Rescale probabilities (n, classes) as if their logits had been divided by `temperature` > 0.

    A temperature above 1 makes them more even, below 1 less even. The order within a row does not change.
    """
    if temperature == 1:
        return probabilities
    return softmax(np.log(np.maximum(probabilities, LEAST)) / temperature)


def song_shares(songs: Sequence[str]) -> np.ndarray:
    """Weight of each clip, of shape (clips,): the clips of a song share a total weight of 1 equally."""
    sizes = Counter(songs)
    return np.array([1 / sizes[song] for song in songs])


def fit_temperature(
    truth: np.ndarray, songs: Sequence[str], probabilities: Callable[[float], np.ndarray]
) -> float:
    """Fit the most probable temperature of a network on clips that it was not trained on.

    The logarithm of the temperature has a normal prior with mean 0 and standard deviation `SPREAD`. Each song
    counts as one label: the log-likelihoods of its clips are averaged.

    Parameters
    ----------
    truth
        Class numbers, int of shape (clips,).
    songs
        Song of each clip; a unique name for a clip of unknown song.
    probabilities
        `probabilities(temperature)` returns probabilities (clips, classes) at that temperature.

    Returns
    -------
    float
        In [0.25, 4]; exactly 1 if there are no clips. The same input gives the same temperature.

    References
    ----------
    Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017: the likelihood.

    """
    if not len(truth):
        return 1.0
    shares, clips = song_shares(songs), np.arange(len(truth))

    def loss(logarithm: float) -> float:
        """Negative logarithm of the posterior at a logarithm of the temperature, up to a constant."""
        given = probabilities(float(np.exp(logarithm)))[clips, truth]
        return float(-shares @ np.log(np.maximum(given, LEAST)) + 0.5 * (logarithm / SPREAD) ** 2)

    return float(np.exp(_lowest(loss)))


def _lowest(loss: Callable[[float], float]) -> float:
    """Log temperature with the lowest loss.

    The loss may have several minima, since probabilities are means over windows. A grid finds the lowest one.
    """
    from scipy.optimize import minimize_scalar  # takes most of a second to import

    grid = np.linspace(np.log(COLDEST), np.log(HOTTEST), GRID)
    losses = [loss(float(point)) for point in grid]
    best = int(np.argmin(losses))
    bounds = grid[max(best - 1, 0)], grid[min(best + 1, GRID - 1)]
    found = minimize_scalar(loss, bounds=bounds, method="bounded")
    return float(found.x if found.fun < losses[best] else grid[best])


def calibration(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """Expected calibration error, and the reliability diagram behind it.

    The confidence of an answer is the probability that the classifier gives it.

    Parameters
    ----------
    truth
        Class numbers, int of shape (n,).
    probabilities
        Rows that sum to 1, of shape (n, classes).

    Returns
    -------
    dict
        error: expected calibration error, in [0, 1]. bins: {low, high, confidence, accuracy, count} for each
        of ten equal ranges of confidence that holds clips.

    References
    ----------
    Naeini et al., 2015.
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

"""Probabilities that mean what they say: how far off they are, and one number that mends most of it.

Of the clips that are given about 70%, about 70% should be right (DeGroot and Fienberg, 1983). The expected
calibration error (Naeini et al., 2015) is the mean gap between the two. Networks tend to be too sure;
dividing their logits by a temperature, fitted on the validation part, mends most of it (Guo et al., 2017).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from mer.metrics.probabilities import softmax

__all__ = ["BINS", "calibration", "fit_temperature", "tempered"]

BINS = 10
COLDEST, HOTTEST = 0.05, 20.0
LEAST = 1e-12  # of a probability, so that its logarithm is finite


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Rows of probabilities (n, classes) as if their logits had been divided by `temperature` > 0.

    Above 1 they come closer to each other, below 1 the largest gains. The order within a row stays.
    """
    if temperature == 1:
        return probabilities
    return softmax(np.log(np.maximum(probabilities, LEAST)) / temperature)


def fit_temperature(truth: np.ndarray, probabilities: Callable[[float], np.ndarray]) -> float:
    """The temperature in [0.05, 20] with the least negative log-likelihood.

    `probabilities(temperature)` gives the rows (n, classes) that belong to the labels `truth` (n,).
    """
    from scipy.optimize import minimize_scalar  # takes most of a second to import

    def loss(logarithm: float) -> float:
        rows = probabilities(float(np.exp(logarithm)))
        return float(-np.log(np.maximum(rows[np.arange(len(truth)), truth], LEAST)).mean())

    found = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(found.x))


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

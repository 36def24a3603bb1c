"""Agreement among listeners, and between listeners, labels and a network, on the same clips.

`counts` is (clips, classes): how many listeners chose each class. Listeners may leave clips out. Intervals
are 95% percentile bootstrap intervals over songs (Efron, 1979), since other songs could have been played.
"""

from collections.abc import Sequence

import numpy as np

from mer.metrics.score import Score
from mer.metrics.scores import bootstrap_interval, resampled

__all__ = ["alpha", "alpha_score", "plurality", "share_score"]


def alpha(counts: np.ndarray) -> float:
    """Krippendorff's alpha for classes without an order.

    1 if all listeners agree on every clip, 0 if they agree as often as by chance, below 0 if less often.

    Parameters
    ----------
    counts
        Votes of shape (clips, classes). Clips with fewer than two votes do not count.

    Returns
    -------
    float
        At most 1. NaN if no clip has two votes, or if all votes are for one class, since then chance cannot
        be told from agreement.

    References
    ----------
    Krippendorff, "Computing Krippendorff's alpha-reliability", 2011, section D.
    """
    rows = np.asarray(counts, float)
    rows = rows[rows.sum(axis=1) >= 2]
    totals, whole = rows.sum(axis=0), rows.sum()
    expected = whole**2 - (totals**2).sum()
    if not expected:
        return float("nan")
    size = rows.sum(axis=1)
    observed = ((size**2 - (rows**2).sum(axis=1)) / (size - 1)).sum()
    return float(1 - (whole - 1) * observed / expected)


def alpha_score(counts: np.ndarray, songs: Sequence[str]) -> Score:
    """Krippendorff's alpha with its interval; see `alpha`. The interval is NaN where alpha is.

    Draws of songs in which alpha is not defined are left out of the interval.
    """
    rows = np.asarray(counts, float)
    value = alpha(rows)
    if np.isnan(value):
        return Score(value, value, value)
    low, high = np.nanpercentile([alpha(rows[clips]) for clips in resampled(songs)], [2.5, 97.5])
    return Score(value, float(low), float(high))


def share_score(shares: np.ndarray, songs: Sequence[str]) -> Score:
    """The mean of one share per clip, 0 to 1, with its interval.

    Parameters
    ----------
    shares
        For each clip the share of listeners, or 0 or 1 for a network, that chose its label; (clips,).
    songs
        Song of each clip.
    """
    rows = np.asarray(shares, float)
    return Score(float(rows.mean()), *bootstrap_interval(lambda clips: float(rows[clips].mean()), songs))


def plurality(counts: np.ndarray) -> list[int | None]:
    """The class with most votes of each clip; None if several have most, or nobody voted."""
    rows = np.asarray(counts)
    best = rows.max(axis=1, keepdims=True)
    return [
        int(row.argmax()) if top > 0 and (row == top).sum() == 1 else None
        for row, (top,) in zip(rows, best, strict=True)
    ]

"""Finds channels in opposite phase, as from a reversed cable: their mean is silence or a residue."""

import numpy as np

__all__ = ["cancels", "chosen", "loudest", "powers"]

LEAST = 0.2  # of the power that the mean of unrelated channels has; two channels then correlate below -0.8
FIRST = 4096  # frames that are looked at first, which is enough in nearly all clips


def powers(samples: np.ndarray) -> tuple[float, np.ndarray]:
    """Power of the sum of the channels, and of each channel, of samples (frames, channels) at any scale."""
    with np.errstate(over="ignore", invalid="ignore"):
        rows = np.ascontiguousarray(samples.T, np.float32)
        added = rows.sum(axis=0)
        return float(np.dot(added, added)), np.array([np.dot(row, row) for row in rows], np.float64)


def cancels(added: float, each: np.ndarray, most: float = LEAST) -> bool:
    """True if channels with these `powers` cancel each other; also of silence."""
    return bool(added <= most * each.sum())


def chosen(samples: np.ndarray) -> int | None:
    """The loudest channel of samples (frames, channels) in opposite phase; None if their mean can be used."""
    if samples.shape[1] < 2 or not cancels(*powers(samples[:: len(samples) // FIRST + 1]), 2 * LEAST):
        return None
    added, each = powers(samples)
    return loudest(each) if each.any() and cancels(added, each) else None


def loudest(each: np.ndarray) -> int:
    """Number of the loudest channel by its power, the first of those that are as loud but for rounding."""
    return int(np.argmax(each >= 0.99 * each.max()))

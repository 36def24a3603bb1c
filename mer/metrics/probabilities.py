"""Scores to probabilities, in numpy."""

import numpy as np

__all__ = ["softmax"]


def softmax(scores: np.ndarray) -> np.ndarray:
    """Shares along the last axis, (..., n) -> (..., n), summing to 1, of finite scores of any size."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)

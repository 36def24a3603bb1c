"""Softmax in numpy."""

import numpy as np

__all__ = ["softmax"]


def softmax(scores: np.ndarray) -> np.ndarray:
    """Softmax along the last axis, (..., n) -> (..., n), without overflow for finite scores of any size."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)

"""Clips as bags of windows: one answer from those to the windows, weighed by their scores.

`clips` (windows,) has the clip of each window, those of one clip side by side.
"""

import numpy as np
import torch

__all__ = ["first_rows", "joined"]


def joined(logits: torch.Tensor, scores: torch.Tensor, clips: np.ndarray) -> torch.Tensor:
    """Logits (windows, classes) and scores (windows,) -> log-probabilities (clips, classes).

    A clip's probabilities are the mean of its windows', weighed by the softmax of their scores.
    """
    sizes = _sizes(clips)
    parts = zip(logits.log_softmax(dim=1).split(sizes), scores.split(sizes), strict=True)
    return torch.stack([torch.logsumexp(own + score.log_softmax(0)[:, None], dim=0) for own, score in parts])


def first_rows(rows: torch.Tensor, clips: np.ndarray) -> torch.Tensor:
    """The row of the first window of each clip."""
    return torch.stack([part[0] for part in rows.split(_sizes(clips))])


def _sizes(clips: np.ndarray) -> list[int]:
    """How many windows side by side are of one clip."""
    ends = np.flatnonzero(np.diff(clips)) + 1
    return np.diff([0, *ends, len(clips)]).tolist()

"""Pool the logits of windows by clip, for the loss; `mer.data.windows.pool` pools probabilities.

`clips` (windows,) is the clip of each window. Windows of a clip are adjacent.
"""

import numpy as np
import torch

__all__ = ["first_rows", "pool_logits"]


def pool_logits(logits: torch.Tensor, scores: torch.Tensor, clips: np.ndarray) -> torch.Tensor:
    """Log-probabilities of clips from the logits of their windows.

    A clip's probabilities are the mean over its windows, weighted by the softmax of their scores.

    Parameters
    ----------
    logits
        Shape (windows, classes).
    scores
        Pooling score of each window, shape (windows,).
    clips
        Clip of each window, shape (windows,).

    Returns
    -------
    torch.Tensor
        Shape (clips, classes).
    """
    sizes = _sizes(clips)
    parts = zip(logits.log_softmax(dim=1).split(sizes), scores.split(sizes), strict=True)
    return torch.stack([torch.logsumexp(own + score.log_softmax(0)[:, None], dim=0) for own, score in parts])


def first_rows(rows: torch.Tensor, clips: np.ndarray) -> torch.Tensor:
    """The row of the first window of each clip."""
    return torch.stack([part[0] for part in rows.split(_sizes(clips))])


def _sizes(clips: np.ndarray) -> list[int]:
    """Number of adjacent windows of each clip."""
    ends = np.flatnonzero(np.diff(clips)) + 1
    return np.diff([0, *ends, len(clips)]).tolist()

"""Agreement between probabilities and the votes of several listeners, who may differ.

`votes` and `probabilities` are (n, classes), with rows that sum to 1: the shares of listeners' votes for each
clip, and a network's output. All figures lie in [0, 1]; intervals are 95% bootstrap intervals over songs.
"""

from collections.abc import Sequence

import numpy as np

from mer.metrics.scores import bootstrap_interval

__all__ = ["agreement_with_votes", "divergence", "overlap", "votes_won"]


def overlap(votes: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Overlap of both distributions, (n,): 1 minus their total variation distance."""
    return np.minimum(votes, probabilities).sum(axis=1)


def divergence(votes: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence in bits, (n,): 0 if both distributions are equal (Lin, 1991)."""
    middle = (votes + probabilities) / 2
    found = (_information(votes, middle) + _information(probabilities, middle)) / 2
    return np.clip(found, 0, 1)


def _information(rows: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """Kullback-Leibler divergence of `rows` from `middle`, in bits; `middle` is 0 only where `rows` is."""
    ratio = np.divide(rows, middle, out=np.ones_like(middle), where=rows > 0)
    return (rows * np.log2(ratio)).sum(axis=1)


def votes_won(votes: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Share of listeners who voted for the network's most probable class, (n,)."""
    return votes[np.arange(len(votes)), probabilities.argmax(axis=1)]


def agreement_with_votes(votes: np.ndarray, probabilities: np.ndarray, groups: Sequence[str]) -> dict:
    """Compute all figures of agreement as plain data.

    Parameters
    ----------
    votes
        Shares of votes, of shape (n, classes).
    probabilities
        Output of the network, of shape (n, classes).
    groups
        Song of each clip.

    Returns
    -------
    dict
        overlap, divergence and votes_won: means over clips. most_votes: the votes won by always naming the
        class with most votes. usual: the overlap of always answering with the mean of all votes.
        intervals: [low, high] of the first three.
    """
    rows = {
        "overlap": overlap(votes, probabilities),
        "divergence": divergence(votes, probabilities),
        "votes_won": votes_won(votes, probabilities),
    }
    intervals = {
        name: list(bootstrap_interval(lambda i, own=values: float(own[i].mean()), groups))
        for name, values in rows.items()
    }
    usual = np.broadcast_to(votes.mean(axis=0), votes.shape)
    return {name: float(values.mean()) for name, values in rows.items()} | {
        "most_votes": float(votes.max(axis=1).mean()),
        "usual": float(overlap(votes, usual).mean()),
        "intervals": intervals,
    }

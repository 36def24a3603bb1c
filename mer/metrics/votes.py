"""How well probabilities agree with listeners who do not agree among themselves.

`votes` and `probabilities` are (n, classes), rows summing to 1: the shares of listeners' votes for each
clip, and what a network says. All figures lie in [0, 1]; intervals are 95% bootstrap intervals over songs.
"""

from collections.abc import Sequence

import numpy as np

from mer.metrics.scores import bootstrap_interval

__all__ = ["agreement", "divergence", "overlap", "votes_won"]


def overlap(votes: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The part that both distributions have in common, (n,): 1 less their total variation distance."""
    return np.minimum(votes, probabilities).sum(axis=1)


def divergence(votes: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence in bits, (n,): 0 where both are the same (Lin, 1991)."""
    middle = (votes + probabilities) / 2
    found = (_information(votes, middle) + _information(probabilities, middle)) / 2
    return np.clip(found, 0, 1)


def _information(rows: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """Kullback-Leibler divergence of rows from their middle, which is 0 only where they are."""
    ratio = np.divide(rows, middle, out=np.ones_like(middle), where=rows > 0)
    return (rows * np.log2(ratio)).sum(axis=1)


def votes_won(votes: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The share of votes that the likeliest class has, (n,): how often a listener drawn at random agrees."""
    return votes[np.arange(len(votes)), probabilities.argmax(axis=1)]


def agreement(votes: np.ndarray, probabilities: np.ndarray, groups: Sequence[str]) -> dict:
    """All figures as plain data; `groups` names the song of each clip.

    Keys: overlap, divergence, votes_won; most_votes, what naming each clip's top class would win; usual, the
    overlap of the mean of all votes, the same answer for every clip; intervals {of the first three: [low,
    high]}.
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

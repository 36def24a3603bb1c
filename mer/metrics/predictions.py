"""Combines the predictions of several runs for the same clips: weights, weighted mean and agreement.

Rows are those that `mer.runs.results` reads. A member is one run of the ensemble. Needs no torch.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mer.metrics.calibration import LEAST, song_shares
from mer.metrics.comparison import Row, matched
from mer.metrics.scores import OUTSIDE, cohen_kappa, confusion_matrix, evaluate
from mer.metrics.votes import agreement_with_votes

__all__ = ["agreement", "answer_row", "fit_weights", "likelihoods", "mean_rows", "score_rows", "stacked"]

STEPS = 10_000
GAP = 1e-5  # the search ends once other weights could gain at most this, nats a song


def answer_row(clip: str, song: str | None, label: str, shares: np.ndarray, classes: Sequence[str]) -> Row:
    """Make the row of the answer to a clip.

    Parameters
    ----------
    clip, song, label
        Name of the clip, its song (None if unknown) and its true label.
    shares
        Probability of each class, shape (classes,).
    classes
        Names of the classes.

    Returns
    -------
    dict
        {clip, song, label, predicted, probabilities}.
    """
    return {
        "clip": clip,
        "song": song,
        "label": label,
        "predicted": classes[int(shares.argmax())],
        "probabilities": dict(zip(classes, map(float, shares), strict=True)),
    }


def stacked(members: Sequence[Sequence[Row]], classes: Sequence[str]) -> np.ndarray:
    """Probabilities of all members, (members, clips, classes), in the order of the first member's clips.

    Raises RunError if the clips, their labels or the classes of the members differ.
    """
    first = members[0]
    same = [first, *([row for _, row in matched(first, rows, classes)] for rows in members[1:])]
    return np.array([[[row["probabilities"][name] for name in classes] for row in rows] for rows in same])


def likelihoods(members: Sequence[Sequence[Row]], classes: Sequence[str]) -> np.ndarray:
    """Probability that each member gives the true label, (members, clips). Raises as `stacked` does."""
    truth = np.array([classes.index(row["label"]) for row in members[0]])
    return stacked(members, classes)[:, np.arange(len(truth)), truth]


def fit_weights(likelihoods: np.ndarray, songs: Sequence[str]) -> np.ndarray:
    """Fit the most probable weights of a mixture on clips that no member was trained on.

    Each song counts once, shared by its clips. The Dirichlet prior counts as one song, divided equally among
    the members. With few songs, the weights stay nearly equal.

    Parameters
    ----------
    likelihoods
        Probability that each member gives the true label, of shape (members, clips).
    songs
        Song of each clip; a unique name for a clip of unknown song.

    Returns
    -------
    np.ndarray
        Weights of shape (members,), all above 0, which sum to 1.

    References
    ----------
    Dempster, Laird and Rubin, "Maximum Likelihood from Incomplete Data via the EM Algorithm", JRSS B, 1977:
    expectation maximisation, which starts here from equal weights. No step lowers the posterior, and since
    its logarithm is concave the search ends at the maximum. Stacking: Wolpert (1992) and Breiman (1996).

    """
    given, counts = np.maximum(likelihoods, LEAST), song_shares(songs)
    size = len(given)
    weights = np.full(size, 1 / size)
    for _ in range(STEPS):
        gains = ((given / (weights @ given)) @ counts + 1 / (size * weights)) / (counts.sum() + 1)
        if gains.max() - 1 < GAP:  # concavity bounds the gain of any other weights
            break
        weights *= gains
    return weights / weights.sum()


def mean_rows(
    members: Sequence[Sequence[Row]], weights: Sequence[float], classes: Sequence[str]
) -> list[Row]:
    """Rows of the weighted mean of the members' probabilities.

    A row is {clip, song, label, predicted, probabilities}, with votes if the first member's row has them. It
    has no window counts, since members may cut clips differently.

    Parameters
    ----------
    members
        Rows of each member.
    weights
        Weight of each member, of shape (members,), which sum to 1.
    classes
        Names of the classes.

    Raises
    ------
    RunError
        As `stacked` does.
    """
    mean = np.tensordot(np.asarray(weights, dtype=float), stacked(members, classes), axes=1)
    return [
        answer_row(row["clip"], row["song"], row["label"], shares, classes)
        | ({"votes": row["votes"]} if "votes" in row else {})
        for row, shares in zip(members[0], mean, strict=True)
    ]


def score_rows(rows: Sequence[Row], classes: Sequence[str]) -> dict[str, Any]:
    """Scores of rows, as `mer.metrics.evaluate` returns. A clip without window counts has one window."""
    groups = [row["song"] or row["clip"] for row in rows]
    probabilities = np.array([[row["probabilities"][name] for name in classes] for row in rows])
    strange = np.array([row["predicted"] == OUTSIDE for row in rows])
    scores = evaluate(
        np.array([classes.index(row["label"]) for row in rows]),
        probabilities,
        groups=groups,
        classes=classes,
        windows=np.array([row.get("windows", [row["predicted"] == row["label"], 1]) for row in rows]),
        outside=strange if strange.any() else None,
    )
    if all("votes" in row for row in rows):
        votes = np.array([row["votes"] for row in rows])
        scores["agreement"] = agreement_with_votes(votes, probabilities, groups)
    return scores


def agreement(members: Sequence[Sequence[Row]], classes: Sequence[str]) -> dict[str, list[list[float]]]:
    """Agreement between the answers of each pair of members.

    Members of equal accuracy gain more from averaging if they agree less (Kuncheva and Whitaker, 2003).

    Parameters
    ----------
    members
        Rows of each member.
    classes
        Names of the classes.

    Returns
    -------
    dict
        Two matrices (members, members). agreement: share of clips with the same answer, 0 to 1. kappa:
        Cohen's kappa, the agreement beyond chance, -1 to 1.

    Raises
    ------
    RunError
        As `stacked` does.

    References
    ----------
    Cohen, 1960.
    """
    answers = stacked(members, classes).argmax(axis=2)
    tables = [[confusion_matrix(one, other, len(classes)) for other in answers] for one in answers]
    return {
        "agreement": [[float(np.trace(table) / table.sum()) for table in row] for row in tables],
        "kappa": [[cohen_kappa(table) for table in row] for row in tables],
    }

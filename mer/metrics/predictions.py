"""The answers of several runs to the same clips: their weighted mean, the best weights, how alike they are.

All from the rows that `mer.runs.results` reads. Needs no torch.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mer.metrics.calibration import LEAST
from mer.metrics.comparison import matched
from mer.metrics.scores import OUTSIDE, cohen_kappa, confusion_matrix, evaluate
from mer.metrics.votes import agreement as agreement_with_votes

__all__ = ["agreement", "answer_row", "fit_weights", "likelihoods", "mean_rows", "score_rows", "stacked"]

STEPS = 10_000
GAP = 1e-5  # nats a clip that other weights could gain at most, once the search ends
SLIGHT = 1e-4  # a weight below it counts as none
Row = dict[str, Any]


def answer_row(clip: str, song: str | None, label: str, shares: np.ndarray, classes: Sequence[str]) -> Row:
    """What was answered for a clip, `shares` (classes,), as plain data."""
    return {
        "clip": clip,
        "song": song,
        "label": label,
        "predicted": classes[int(shares.argmax())],
        "probabilities": dict(zip(classes, map(float, shares), strict=True)),
    }


def stacked(members: Sequence[Sequence[Row]], classes: Sequence[str]) -> np.ndarray:
    """Probabilities (members, clips, classes), clips in the order of the first member's rows.

    Raises RunError if the clips, their labels or the classes of the members are not the same.
    """
    first = members[0]
    same = [first, *([row for _, row in matched(first, rows, classes)] for rows in members[1:])]
    return np.array([[[row["probabilities"][name] for name in classes] for row in rows] for rows in same])


def likelihoods(members: Sequence[Sequence[Row]], classes: Sequence[str]) -> np.ndarray:
    """Probability (members, clips) that each member gives the true label. Raises RunError as `stacked`."""
    truth = np.array([classes.index(row["label"]) for row in members[0]])
    return stacked(members, classes)[:, np.arange(len(truth)), truth]


def fit_weights(likelihoods: np.ndarray) -> np.ndarray:
    """Weights (members,) >= 0 of sum 1 under which the mean gives true labels the highest log-likelihood.

    `likelihoods` (members, clips) are the probabilities that the members give the true labels, of clips that
    none has learned from. Found by expectation maximisation for the shares of a mixture (Dempster, Laird and
    Rubin, 1977) from equal weights: no step makes it worse, and since the problem is concave the end is the
    best there is, as stacking (Wolpert, 1992; Breiman, 1996) asks for.
    """
    shares = np.maximum(likelihoods, LEAST)
    weights = np.full(len(shares), 1 / len(shares))
    for _ in range(STEPS):
        gains = (shares / (weights @ shares)).mean(axis=1)
        if gains.max() - 1 < GAP:  # by concavity no weights are better by more
            break
        weights *= gains
    weights[weights < SLIGHT] = 0
    return weights / weights.sum()


def mean_rows(
    members: Sequence[Sequence[Row]], weights: Sequence[float], classes: Sequence[str]
) -> list[Row]:
    """Rows of the weighted mean: {clip, song, label, predicted, probabilities}, and votes if there are some.

    They count no windows, since those of the members may differ. Raises RunError as `stacked`.
    """
    mean = np.tensordot(np.asarray(weights, dtype=float), stacked(members, classes), axes=1)
    return [
        answer_row(row["clip"], row["song"], row["label"], shares, classes)
        | ({"votes": row["votes"]} if "votes" in row else {})
        for row, shares in zip(members[0], mean, strict=True)
    ]


def score_rows(rows: Sequence[Row], classes: Sequence[str]) -> dict[str, Any]:
    """The scores of `mer.metrics.evaluate` of such rows; a clip whose windows are unknown counts as one."""
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
    """How alike the members' answers are, pair by pair: {agreement, kappa}, each (members, members).

    `agreement` is the share of clips with the same answer, 0 to 1; `kappa` (Cohen, 1960) what of it is
    beyond chance, -1 to 1. The less alike members of equal worth are, the more their mean can gain
    (Kuncheva and Whitaker, 2003). Raises RunError as `stacked`.
    """
    answers = stacked(members, classes).argmax(axis=2)
    tables = [[confusion_matrix(one, other, len(classes)) for other in answers] for one in answers]
    return {
        "agreement": [[float(np.trace(table) / table.sum()) for table in row] for row in tables],
        "kappa": [[cohen_kappa(table) for table in row] for row in tables],
    }

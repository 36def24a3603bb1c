"""Scores of a classifier: pure functions of what was true and what was predicted.

Conventions: `truth` and `predicted` are int arrays of shape (n,); `probabilities` is (n, classes),
rows summing to 1; class k is the k-th name of the data set's `classes`. Scores lie in [0, 1]. A network with
more outputs than classes may answer with none of them: such an answer has the number after the last class.

Metrics: accuracy, macro-F1, Cohen's kappa (1960), confusion matrix (rows true, columns predicted), per-class
precision, recall and F1, calibration, the majority class's accuracy, and 95% percentile bootstrap intervals
(Efron, 1979) that resample songs rather than clips, since clips of one song are not independent. Two
classifiers tested on the same material are told apart by McNemar's test (1947).
"""

from collections.abc import Callable, Sequence
from math import fsum

import numpy as np

from mer.metrics.calibration import calibration

__all__ = [
    "OUTSIDE",
    "accuracy",
    "bootstrap_interval",
    "cohen_kappa",
    "columns",
    "confusion_matrix",
    "evaluate",
    "macro_f1",
    "majority_accuracy",
    "mcnemar",
    "per_class",
    "pool_by",
    "wilson_interval",
    "with_outside",
]

RESAMPLES = 2000
OUTSIDE = "none of the classes"  # such an answer by name


def validate(truth: np.ndarray, probabilities: np.ndarray, groups: int, classes: int) -> None:
    """Raise ValueError unless shapes and counts agree and every row is a distribution."""
    if len(truth) == 0:
        raise ValueError("nothing to evaluate: 0 clips")
    if probabilities.ndim != 2 or len(truth) != len(probabilities):
        raise ValueError(f"{len(truth)} labels do not match probabilities of shape {probabilities.shape}")
    if probabilities.shape[1] != classes:
        raise ValueError(f"{probabilities.shape[1]} columns of probabilities do not match {classes} classes")
    if groups != len(truth):
        raise ValueError(f"{groups} groups do not match {len(truth)} labels")
    if truth.min() < 0 or truth.max() >= classes:
        label = truth.min() if truth.min() < 0 else truth.max()
        raise ValueError(f"label {label} is outside the {classes} classes")
    if not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3) or (probabilities < 0).any():
        raise ValueError("probabilities are negative or do not sum to 1")


def accuracy(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Share of right answers."""
    return float(np.mean(truth == predicted))


def majority_accuracy(truth: np.ndarray) -> float:
    """What always naming the most frequent class would score."""
    return float(np.bincount(truth).max() / len(truth))


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts, int64: rows true, columns predicted, one more if any answer is none of the classes."""
    columns = classes + int((predicted == classes).any())
    cells = np.bincount(truth * columns + predicted, minlength=classes * columns)
    return cells.reshape(classes, columns)


def per_class(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall and F1 of each class, each of shape (classes,); 0 where undefined."""
    hits = np.diag(confusion).astype(float)
    precision = hits / np.maximum(confusion.sum(axis=0)[: len(hits)], 1)
    recall = hits / np.maximum(confusion.sum(axis=1), 1)
    both = precision + recall
    f1 = np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)
    return {"precision": precision, "recall": recall, "f1": f1}


def macro_f1(truth: np.ndarray, predicted: np.ndarray, classes: int) -> float:
    """Mean F1 over the classes that occur in `truth` or `predicted`."""
    confusion = confusion_matrix(truth, predicted, classes)
    occurs = (confusion.sum(axis=0)[:classes] + confusion.sum(axis=1)) > 0
    return float(per_class(confusion)["f1"][occurs].mean())


def cohen_kappa(confusion: np.ndarray) -> float:
    """Agreement beyond what the same answers in another order would have (Cohen, 1960), from -1 to 1.

    0 where truth and answers name one class only, and nothing lies beyond.
    """
    shares = confusion / confusion.sum()
    agreed, expected = np.trace(shares), float(shares.sum(axis=0)[: len(shares)] @ shares.sum(axis=1))
    return float((agreed - expected) / (1 - expected)) if expected < 1 else 0.0


def with_outside(probabilities: np.ndarray, outside: np.ndarray | None) -> np.ndarray:
    """Probabilities with a last column for "none of the classes", if any clip was answered so.

    `outside` (n,) says which were. Such a clip speaks for none of the classes, at its song too.
    """
    if outside is None or not outside.any():
        return probabilities
    return np.hstack([np.where(outside[:, None], 0.0, probabilities), outside[:, None]])


def pool_by(
    groups: Sequence[str], truth: np.ndarray, probabilities: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Average probabilities within each group (song); its label is the most frequent one.

    Returns truth (groups,), probabilities (groups, classes) and the group names, sorted. The order of the
    clips does not matter, not even where classes are tied: fsum is exact.
    """
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    own = [probabilities[rows] for rows in _members(index)]
    pooled = np.array([[fsum(column) / len(rows) for column in rows.T] for rows in own])
    votes = np.zeros_like(pooled)
    np.add.at(votes, (index, truth), 1)
    return votes.argmax(axis=1), pooled, [str(name) for name in names]


def _members(index: np.ndarray) -> list[np.ndarray]:
    """The clips of each group, from the number of each clip's group."""
    return np.split(np.argsort(index, kind="stable"), np.cumsum(np.bincount(index))[:-1])


def bootstrap_interval(
    score: Callable[[np.ndarray], float], groups: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """95% percentile interval of `score(indices)` when whole groups are drawn with replacement.

    Where every draw scores 0, or every draw 1, the bootstrap sees no spread at all; then Wilson's
    interval (1927) for as many trials as there are groups stands in.
    """
    rng = np.random.default_rng(seed)
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    sizes = np.bincount(index)
    order, starts, count = np.argsort(index, kind="stable"), np.cumsum(sizes) - sizes, len(sizes)

    def members(groups: np.ndarray) -> np.ndarray:
        """The clips of these groups, one group after the other."""
        drawn = sizes[groups]
        before = np.cumsum(drawn) - drawn
        return order[np.arange(drawn.sum()) + np.repeat(starts[groups] - before, drawn)]

    scores = [score(members(rng.integers(0, count, count))) for _ in range(resamples)]
    low, high = np.percentile(scores, [2.5, 97.5])
    if low == high and low in (0, 1):
        return wilson_interval(float(low), count)
    return float(low), float(high)


def wilson_interval(share: float, trials: int) -> tuple[float, float]:
    """95% interval of a share of successes among independent `trials` (Wilson, 1927)."""
    z = 1.959964
    centre = share + z * z / (2 * trials)
    spread = z * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return float(max(0, (centre - spread) / scale)), float(min(1, (centre + spread) / scale))


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Exact two-sided p-value of McNemar's test (1947) that two classifiers are right equally often.

    `first` and `second` are bool arrays of shape (n,): who is right on each unit, the units independent of
    each other. Only those on which one of the two is right count; were the two equally good, each would win
    half of these (exact binomial test). In [0, 1]; 1 where there are none. Raises ValueError if the shapes
    differ.
    """
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"answers of shape {first.shape} do not match answers of shape {second.shape}")
    only_first = int(np.count_nonzero(first & ~second))
    only_second = int(np.count_nonzero(second & ~first))
    if only_first + only_second == 0:
        return 1.0
    from scipy.stats import binomtest  # takes most of a second to import

    return float(binomtest(only_first, only_first + only_second).pvalue)


def evaluate(
    truth: np.ndarray,
    probabilities: np.ndarray,
    *,
    groups: Sequence[str],
    classes: Sequence[str],
    windows: np.ndarray | None = None,
    outside: np.ndarray | None = None,
) -> dict:
    """All scores as plain data; `groups` names the song of each clip (or the clip where unknown).

    `windows` (clips, 2) counts the windows of each clip that were answered rightly, and all of them; without
    it a clip is one window. `outside` (clips,), bool, says of a network with more outputs than classes which
    clips it answered with none of them; these count as wrong.

    Keys: accuracy (by clip), window_accuracy, song_accuracy, macro_f1, kappa, majority, chance, intervals {of
    accuracy, window_accuracy, song_accuracy, macro_f1: [low, high]}, calibration {error, bins} (by clip),
    per_class {name: {precision, recall, f1, support}}, confusion, classes, n_windows,
    n_clips, n_songs, and with `outside` its share of the clips. Raises ValueError on inconsistent input.
    """
    size = len(classes)
    validate(truth, probabilities, len(groups), size)
    answers = with_outside(probabilities, outside)
    predicted = answers.argmax(axis=1)
    if windows is None:
        windows = np.stack([truth == predicted, np.ones(len(truth))], axis=1)
    song_truth, song_answers, songs = pool_by(groups, truth, answers)
    song_predicted = song_answers.argmax(axis=1)
    confusion = confusion_matrix(truth, predicted, size)
    table = per_class(confusion)
    intervals = {
        "accuracy": bootstrap_interval(lambda i: accuracy(truth[i], predicted[i]), groups),
        "window_accuracy": bootstrap_interval(lambda i: _share(windows[i]), groups),
        "macro_f1": bootstrap_interval(lambda i: macro_f1(truth[i], predicted[i], size), groups),
        "song_accuracy": bootstrap_interval(lambda i: accuracy(song_truth[i], song_predicted[i]), songs),
    }
    return {
        "accuracy": accuracy(truth, predicted),
        "window_accuracy": _share(windows),
        "macro_f1": macro_f1(truth, predicted, size),
        "kappa": cohen_kappa(confusion),
        "song_accuracy": accuracy(song_truth, song_predicted),
        "majority": majority_accuracy(truth),
        "chance": 1 / size,
        "intervals": {name: list(interval) for name, interval in intervals.items()},
        "calibration": calibration(truth if outside is None else np.where(outside, -1, truth), probabilities),
        "per_class": {
            name: {key: float(values[k]) for key, values in table.items()}
            | {"support": int(confusion[k].sum())}
            for k, name in enumerate(classes)
        },
        "confusion": confusion.tolist(),
        "classes": list(classes),
        "n_windows": int(windows[:, 1].sum()),
        "n_clips": len(truth),
        "n_songs": len(songs),
    } | ({} if outside is None else {"outside": float(outside.mean())})


def columns(scores: dict) -> list[str]:
    """The answers that the columns of these scores' confusion matrix stand for."""
    more = len(scores["confusion"][0]) - len(scores["classes"])
    return [*scores["classes"], *[OUTSIDE] * more]


def _share(counts: np.ndarray) -> float:
    """Of (right, all) windows of some clips the share that is right."""
    right, total = counts.sum(axis=0)
    return float(right / total)

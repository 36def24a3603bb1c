"""Scores of a classifier, as pure functions of true and predicted classes.

Conventions: `truth` and `predicted` are int arrays of shape (n,). `probabilities` is (n, classes), with rows
that sum to 1. Class k is the k-th name of the data set's `classes`. Scores lie in [0, 1]; kappa in [-1, 1]. A
network with more outputs than classes may answer with none of the classes. That answer has the number after
the last class.

Metrics: accuracy, macro-F1, Cohen's kappa (1960), confusion matrix (rows true, columns predicted), per-class
precision, recall and F1, calibration, and accuracy of the majority class. The accuracy by song has the exact
95% interval (Clopper and Pearson, 1934), which belongs to the tests of `mer.metrics.verdict`. The other
intervals are percentile bootstraps (Efron, 1979) that resample songs rather than clips, since clips of one
song are not independent.
"""

from collections.abc import Callable, Iterator, Sequence
from math import fsum

import numpy as np

from mer.metrics.calibration import calibration
from mer.metrics.verdict import exact_share

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
    "per_class",
    "pool_by",
    "resampled",
    "wilson_interval",
    "with_outside",
]

RESAMPLES = 2000
OUTSIDE = "none of the classes"  # name of such an answer


def validate(truth: np.ndarray, probabilities: np.ndarray, groups: int, classes: int) -> None:
    """Check the input of `evaluate`.

    Parameters
    ----------
    truth
        Class numbers, int of shape (clips,).
    probabilities
        Shape (clips, classes); rows must sum to 1.
    groups, classes
        Number of songs given, one per clip, and number of classes.

    Raises
    ------
    ValueError
        If shapes or counts disagree, a label is not a class, or a row is not a distribution.
    """
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
    """Share of correct answers."""
    return float(np.mean(truth == predicted))


def majority_accuracy(truth: np.ndarray) -> float:
    """Accuracy of always predicting the most frequent class."""
    return float(np.bincount(truth).max() / len(truth))


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count clips by true and predicted class.

    Parameters
    ----------
    truth, predicted
        Class numbers, int of shape (n,). `classes` in `predicted` stands for none of the classes.
    classes
        Number of classes.

    Returns
    -------
    np.ndarray
        int64 (classes, columns): rows true, columns predicted. A last column is added if any answer is none
        of the classes.
    """
    columns = classes + int((predicted == classes).any())
    cells = np.bincount(truth * columns + predicted, minlength=classes * columns)
    return cells.reshape(classes, columns)


def per_class(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall and F1 of each class, each (..., classes), of matrices (..., classes, columns).

    Undefined values are 0.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1).astype(float)
    precision = hits / np.maximum(confusion.sum(axis=-2)[..., : hits.shape[-1]], 1)
    recall = hits / np.maximum(confusion.sum(axis=-1), 1)
    both = precision + recall
    f1 = np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)
    return {"precision": precision, "recall": recall, "f1": f1}


def macro_f1(truth: np.ndarray, predicted: np.ndarray, classes: int) -> float:
    """Mean F1, 0 to 1, over the classes that occur in `truth` or `predicted`.

    Parameters
    ----------
    truth, predicted
        Class numbers, int of shape (n,).
    classes
        Number of classes.
    """
    return float(_mean_f1(confusion_matrix(truth, predicted, classes)))


def _mean_f1(confusion: np.ndarray) -> np.ndarray:
    """Macro-F1 (...) of matrices (..., classes, columns). F1 is 0 for a class that does not occur."""
    occurs = confusion.sum(axis=-2)[..., : confusion.shape[-2]] + confusion.sum(axis=-1) > 0
    return per_class(confusion)["f1"].sum(axis=-1) / occurs.sum(axis=-1)


def cohen_kappa(confusion: np.ndarray) -> float:
    """Cohen's kappa (1960) of a confusion matrix: agreement beyond chance, from -1 to 1.

    Chance agreement is that of shuffled answers. Kappa is 0 if truth and answers contain one class only.
    """
    shares = confusion / confusion.sum()
    agreed, expected = np.trace(shares), float(shares.sum(axis=0)[: len(shares)] @ shares.sum(axis=1))
    return float((agreed - expected) / (1 - expected)) if expected < 1 else 0.0


def with_outside(probabilities: np.ndarray, outside: np.ndarray | None) -> np.ndarray:
    """Add a last column for "none of the classes", if any clip was answered so.

    `outside` (n,), bool, marks those clips. They get probability 1 in that column and 0 for the classes, so
    they support no class when clips are pooled by song.
    """
    if outside is None or not outside.any():
        return probabilities
    return np.hstack([np.where(outside[:, None], 0.0, probabilities), outside[:, None]])


def pool_by(
    groups: Sequence[str], truth: np.ndarray, probabilities: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Average the probabilities of each group (song), and take its most frequent label.

    The order of the clips does not affect the result, not even with ties, since fsum is exact.

    Parameters
    ----------
    groups
        Group of each clip.
    truth
        Class numbers, int of shape (clips,).
    probabilities
        Shape (clips, classes).

    Returns
    -------
    tuple
        Class numbers (groups,), probabilities (groups, classes), and the sorted names of the groups.
    """
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    own = [probabilities[rows] for rows in _members(index)]
    pooled = np.array([[fsum(column) / len(rows) for column in rows.T] for rows in own])
    votes = np.zeros_like(pooled)
    np.add.at(votes, (index, truth), 1)
    return votes.argmax(axis=1), pooled, [str(name) for name in names]


def _members(index: np.ndarray) -> list[np.ndarray]:
    """Clip numbers of each group, given the group number of each clip."""
    return np.split(np.argsort(index, kind="stable"), np.cumsum(np.bincount(index))[:-1])


def bootstrap_interval(
    score: Callable[[np.ndarray], float], groups: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """95% percentile bootstrap interval of a score, with whole groups drawn with replacement.

    If all draws score 0, or all score 1, the bootstrap shows no spread. Wilson's interval (1927) is then
    returned, with as many trials as groups.

    Parameters
    ----------
    score
        `score(indices)` returns the score of the clips with these numbers.
    groups
        Group (song) of each clip.
    resamples
        Number of draws.
    seed
        Seed of the draws.

    References
    ----------
    Efron, 1979. Wilson, 1927.
    """
    scores = [score(clips) for clips in resampled(groups, resamples=resamples, seed=seed)]
    return _interval(scores, len(set(groups)))


def resampled(groups: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0) -> Iterator[np.ndarray]:
    """Clip numbers of each draw of the bootstrap, group by group; see `bootstrap_interval`."""
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    sizes = np.bincount(index)
    order, starts = np.argsort(index, kind="stable"), np.cumsum(sizes) - sizes
    for groups_drawn in _draws(len(sizes), resamples, seed):
        drawn = sizes[groups_drawn]
        before = np.cumsum(drawn) - drawn
        yield order[np.arange(drawn.sum()) + np.repeat(starts[groups_drawn] - before, drawn)]


def _draws(count: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """So many draws of `count` group numbers (count,), with replacement."""
    rng = np.random.default_rng(seed)
    return (rng.integers(0, count, count) for _ in range(resamples))


def _interval(scores: Sequence[float] | np.ndarray, count: int) -> tuple[float, float]:
    """The interval from the scores of all draws of `count` groups."""
    low, high = np.percentile(scores, [2.5, 97.5])
    if low == high and low in (0, 1):
        return wilson_interval(float(low), count)
    return float(low), float(high)


def wilson_interval(share: float, trials: int) -> tuple[float, float]:
    """95% interval (Wilson, 1927) of a `share` of successes, 0 to 1, among independent `trials`."""
    z = 1.959964
    centre = share + z * z / (2 * trials)
    spread = z * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return float(max(0, (centre - spread) / scale)), float(min(1, (centre + spread) / scale))


def evaluate(
    truth: np.ndarray,
    probabilities: np.ndarray,
    *,
    groups: Sequence[str],
    classes: Sequence[str],
    windows: np.ndarray | None = None,
    outside: np.ndarray | None = None,
) -> dict:
    """Compute all scores as plain data.

    Parameters
    ----------
    truth
        Class number of each clip, int of shape (clips,).
    probabilities
        Rows that sum to 1, of shape (clips, classes).
    groups
        Song of each clip, or the clip's own name if its song is unknown.
    classes
        Names of the classes.
    windows
        Counts of correct windows and of all windows of each clip, (clips, 2). By default a clip has one.
    outside
        Clips that the network answered with none of the classes, bool of shape (clips,). They count as wrong.

    Returns
    -------
    dict
        accuracy (by clip), window_accuracy, song_accuracy, macro_f1, kappa, majority, chance, intervals {of
        accuracy, window_accuracy, song_accuracy, macro_f1: [low, high]}, calibration {error, bins} (by clip),
        per_class {name: {precision, recall, f1, support}}, confusion, classes, n_windows, n_clips, n_songs;
        with `outside` also outside, the share of such clips.

    Raises
    ------
    ValueError
        If the input is inconsistent.
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
    intervals = _intervals(truth, predicted, windows, groups, size, song_truth == song_predicted)
    return {
        "accuracy": accuracy(truth, predicted),
        "window_accuracy": _share(windows),
        "macro_f1": macro_f1(truth, predicted, size),
        "kappa": cohen_kappa(confusion),
        "song_accuracy": accuracy(song_truth, song_predicted),
        "majority": majority_accuracy(truth),
        "chance": 1 / size,
        "intervals": intervals,
        "calibration": calibration(truth if outside is None else np.where(outside, -1, truth), probabilities),
        "per_class": _named(per_class(confusion), confusion, classes),
        "confusion": confusion.tolist(),
        "classes": list(classes),
        "n_windows": int(windows[:, 1].sum()),
        "n_clips": len(truth),
        "n_songs": len(songs),
    } | ({} if outside is None else {"outside": float(outside.mean())})


def _intervals(
    truth: np.ndarray,
    predicted: np.ndarray,
    windows: np.ndarray,
    groups: Sequence[str],
    size: int,
    songs_right: np.ndarray,
) -> dict[str, list[float]]:
    """By song the exact interval; else as by `bootstrap_interval`, in a tenth of the time."""
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    count, width = len(songs_right), size + int((predicted == size).any())
    counts = np.zeros((count, size * width + 2))  # by song: confusion matrix, windows right and all
    np.add.at(counts, (index, truth * width + predicted), 1)
    np.add.at(counts[:, -2:], index, windows)
    draws = _draws(count, RESAMPLES, seed=0)
    drawn = np.stack([np.bincount(draw, minlength=count) @ counts for draw in draws])
    confusion = drawn[:, :-2].reshape(-1, size, width)
    found = {
        "accuracy": np.trace(confusion, axis1=1, axis2=2) / confusion.sum(axis=(1, 2)),
        "window_accuracy": drawn[:, -2] / drawn[:, -1],
        "macro_f1": _mean_f1(confusion),
    }
    exact = exact_share(int(songs_right.sum()), count)
    return {name: list(_interval(scores, count)) for name, scores in found.items()} | {
        "song_accuracy": [exact.low, exact.high]
    }


def _named(table: dict[str, np.ndarray], confusion: np.ndarray, classes: Sequence[str]) -> dict:
    """The scores of each class, by its name."""
    return {
        name: {key: float(values[k]) for key, values in table.items()} | {"support": int(confusion[k].sum())}
        for k, name in enumerate(classes)
    }


def columns(scores: dict) -> list[str]:
    """Names of the columns of the confusion matrix in `scores`."""
    more = len(scores["confusion"][0]) - len(scores["classes"])
    return [*scores["classes"], *[OUTSIDE] * more]


def _share(counts: np.ndarray) -> float:
    """Share of correct windows, given (correct, all) for each clip."""
    right, total = counts.sum(axis=0)
    return float(right / total)

"""Compares two runs tested on the same clips, with a test of whether they differ.

Songs are counted, since clips of one song are not independent. McNemar's exact test (1947) on the songs that
only one run gets right gives the p-value. A paired bootstrap over songs (Efron, 1979) gives the interval of
the difference. Needs no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mer.metrics.score import Score
from mer.metrics.scores import (
    OUTSIDE,
    bootstrap_interval,
    confusion_matrix,
    mcnemar,
    per_class,
    pool_by,
    wilson_interval,
    with_outside,
)
from mer.utils.errors import RunError

__all__ = ["LEVEL", "Comparison", "Row", "Rows", "compare", "matched", "overlapping", "verdict"]

Row = dict[str, Any]  # the answer to a clip; see `mer.metrics.predictions.answer_row`
Rows = list[Row]
LEVEL = 0.05
_OUTCOMES = {
    (True, True): "both right",
    (True, False): "only first",
    (False, True): "only second",
    (False, False): "both wrong",
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Result of the comparison of two runs.

    Parameters
    ----------
    n_clips, n_songs
        Numbers of clips and songs.
    first, second
        Accuracy of each run by song, 0 to 1.
    difference
        second - first, -1 to 1.
    low, high
        95% interval of the difference.
    only_first, only_second
        Numbers of songs that only this run gets right.
    p_value
        McNemar's p-value over songs.
    per_class
        Recall of each class by clip, as (first, second).
    clips
        One row per clip: {clip, song, label, first, second (the answers), first_probability,
        second_probability (given to the true label), outcome ("both right", "only first", "only second" or
        "both wrong")}.
    """

    n_clips: int
    n_songs: int
    first: float
    second: float
    difference: float
    low: float
    high: float
    only_first: int
    only_second: int
    p_value: float
    per_class: dict[str, tuple[float, float]]
    clips: tuple[Row, ...]

    @property
    def gain(self) -> Score:
        """The difference and its interval."""
        return Score(self.difference, self.low, self.high)

    @property
    def distinguishable(self) -> bool:
        """True if the runs differ significantly (p < 0.05)."""
        return self.p_value < LEVEL


def compare(first: list[Row], second: list[Row], *, classes: Sequence[str]) -> Comparison:
    """Compare the predictions of two runs on the same clips.

    Parameters
    ----------
    first, second
        Rows of `mer.runs.results.read_predictions`, in any order. A clip's song is taken from `first`, or
        else from `second`. A clip without a song counts as a song.
    classes
        Names of the classes.

    Raises
    ------
    RunError
        If the clips, their labels or the classes of the runs differ.

    References
    ----------
    McNemar, 1947: the test. Efron, 1979: the bootstrap.
    """
    pairs = matched(first, second, classes)
    truth = np.array([classes.index(row["label"]) for row in first])
    groups = [one["song"] or other["song"] or one["clip"] for one, other in pairs]
    right, recall = [], []
    for rows in zip(*pairs, strict=True):
        probabilities = np.array([[row["probabilities"][name] for name in classes] for row in rows])
        predicted = np.array([(*classes, OUTSIDE).index(row["predicted"]) for row in rows])
        answers = with_outside(probabilities, predicted == len(classes))
        song_truth, pooled, songs = pool_by(groups, truth, answers)
        right.append(pooled.argmax(axis=1) == song_truth)
        recall.append(per_class(confusion_matrix(truth, predicted, len(classes)))["recall"].tolist())
    low, high = _interval(right[1].astype(int) - right[0], songs)
    return Comparison(
        n_clips=len(pairs),
        n_songs=len(songs),
        first=float(right[0].mean()),
        second=float(right[1].mean()),
        difference=float(right[1].mean() - right[0].mean()),
        low=low,
        high=high,
        only_first=int((right[0] & ~right[1]).sum()),
        only_second=int((right[1] & ~right[0]).sum()),
        p_value=mcnemar(*right),
        per_class=dict(zip(classes, zip(*recall, strict=True), strict=True)),
        clips=tuple(_clip_row(*pair) for pair in pairs),
    )


def matched(first: Sequence[Row], second: Sequence[Row], classes: Sequence[str]) -> list[tuple[Row, Row]]:
    """Pair the rows of each clip, in the order of `first`.

    Parameters
    ----------
    first, second
        Rows of two runs; see `compare`.
    classes
        Names of the classes.

    Returns
    -------
    list of tuple
        (row of `first`, row of `second`) for each clip.

    Raises
    ------
    RunError
        If the clips, their labels or the classes differ.
    """
    others = {row["clip"]: row for row in second}
    _require_same(first, others, classes)
    return [(row, others[row["clip"]]) for row in first]


def _require_same(first: Sequence[Row], others: dict[str, Row], classes: Sequence[str]) -> None:
    """Raise RunError unless both runs have the same clips, labels and classes."""
    remedy = "train both with the same data, seed and split"
    if not first or not others:
        raise RunError(f"there are no predictions of the {'second' if first else 'first'} run; {remedy}")
    own = {row["clip"]: row["label"] for row in first}
    alone = len(own.keys() ^ others.keys())
    if alone:
        raise RunError(f"{alone} of {len(own.keys() | others.keys())} clips were tested by one run; {remedy}")
    relabelled = sum(label != others[clip]["label"] for clip, label in own.items())
    if relabelled:
        raise RunError(f"{relabelled} of {len(own)} clips have other labels in the second run; {remedy}")
    for row in (*first, *others.values()):
        strange = set(classes) ^ row["probabilities"].keys()
        if strange:
            raise RunError(f"one of the runs does not know the class {min(strange)!r}; {remedy}")


def _interval(gain: np.ndarray, songs: Sequence[str]) -> tuple[float, float]:
    """95% interval of the mean gain. If all gains are equal, the width comes from Wilson's interval."""
    if (gain == gain[0]).all():
        spread = wilson_interval(0, len(gain))[1]
        return max(-1.0, float(gain[0] - spread)), min(1.0, float(gain[0] + spread))
    return bootstrap_interval(lambda chosen: float(gain[chosen].mean()), songs)


def _clip_row(first: Row, second: Row) -> Row:
    label = first["label"]
    return {
        "clip": first["clip"],
        "song": first["song"] or second["song"],
        "label": label,
        "first": first["predicted"],
        "second": second["predicted"],
        "first_probability": first["probabilities"][label],
        "second_probability": second["probabilities"][label],
        "outcome": _OUTCOMES[first["predicted"] == label, second["predicted"] == label],
    }


def verdict(comparison: Comparison, first_name: str, second_name: str) -> str:
    """The result in one or two sentences that need no knowledge of statistics.

    Parameters
    ----------
    comparison
        The comparison of two runs.
    first_name, second_name
        Names of the runs.
    """
    c, p = comparison, comparison.p_value
    songs = "this one song" if c.n_songs == 1 else f"these {c.n_songs} songs"
    if not c.only_first + c.only_second:
        return f"The two cannot be told apart on {songs}: both are right on the same songs."
    chance = "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
    better, worse, more, fewer = first_name, second_name, c.only_first, c.only_second
    if c.distinguishable and fewer > more:
        better, worse, more, fewer = worse, better, fewer, more
    counts = f"{better} is right on {more} that {worse} misses, {worse} on {fewer} that {better} misses"
    if c.distinguishable:
        return f"{better} is better on {songs}: {counts}; such a difference is rarely chance ({chance})."
    return f"The two cannot be told apart on {songs}: {counts}; such a difference can be chance ({chance})."


def overlapping(first: Score, second: Score) -> bool:
    """True if each score lies within the other's interval.

    A rule of thumb for a leaderboard, where `compare` does not apply. It is not a statistical test.
    """
    return second.low <= first.value <= second.high and first.low <= second.value <= first.high

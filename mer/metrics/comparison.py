"""Compares two runs tested on the same clips, song by song and clip by clip.

Songs are counted, since clips of one song are not independent. `mer.metrics.verdict` decides whether the two
can be told apart. Needs no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mer.metrics.scores import OUTSIDE, confusion_matrix, per_class, pool_by, with_outside
from mer.metrics.verdict import Verdict, paired
from mer.utils.errors import RunError

__all__ = ["Comparison", "Row", "Rows", "compare", "matched"]

Row = dict[str, Any]  # the answer to a clip; see `mer.metrics.predictions.answer_row`
Rows = list[Row]
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
    only_first, only_second
        Numbers of songs that only this run gets right.
    verdict
        Whether the second run is better: the difference with its interval, and the p-value.
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
    only_first: int
    only_second: int
    verdict: Verdict
    per_class: dict[str, tuple[float, float]]
    clips: tuple[Row, ...]

    def sentence(self, first_name: str, second_name: str) -> str:
        """The result in one or two sentences that need no knowledge of statistics.

        Parameters
        ----------
        first_name, second_name
            Names of the runs.
        """
        found = self.verdict
        songs = "this one song" if self.n_songs == 1 else f"these {self.n_songs} songs"
        alike = f"The two cannot be told apart on {songs}"
        if found.needed:
            return f"{alike}: no result could tell them apart, since at least {found.needed} are needed."
        if not self.only_first + self.only_second:
            return f"{alike}: both are right on the same songs."
        sides = [(first_name, self.only_first), (second_name, self.only_second)]
        (better, more), (worse, fewer) = sides[::-1] if found.higher else sides
        counts = f"{better} is right on {more} that {worse} misses, {worse} on {fewer} that {better} misses"
        if found.told:
            return (
                f"{better} is better on {songs}: {counts}; such a difference is rarely chance "
                f"({found.chance})."
            )
        return f"{alike}: {counts}; such a difference can be chance ({found.chance})."


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
    alone = [int((own & ~other).sum()) for own, other in (right, right[::-1])]
    return Comparison(
        n_clips=len(pairs),
        n_songs=len(songs),
        first=float(right[0].mean()),
        second=float(right[1].mean()),
        only_first=alone[0],
        only_second=alone[1],
        verdict=paired(*alone, len(songs)),
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

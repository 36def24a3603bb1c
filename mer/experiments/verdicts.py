"""Tests whether a control run scores above guessing (see `mer.data.cache.controls`)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from mer.data.cache.controls import CONTROLS
from mer.metrics.comparison import Rows
from mer.metrics.score import Score
from mer.metrics.scores import majority_accuracy, pool_by
from mer.metrics.verdict import against, exact_share
from mer.utils.errors import RunError

__all__ = ["Control", "control_of", "guess_of"]


@dataclass(frozen=True, slots=True)
class Control:
    """Scores by song of a control run, and the highest score that guessing can reach on its test songs.

    Of forty scores without a leak, at most one lies above guessing by chance, since a 95% interval leaves
    2.5% on each side.

    Parameters
    ----------
    control, run_id
        Kind of the control, and id of the run.
    right
        Number of songs that the network and, if there is one, the SVM gets right.
    songs
        Number of test songs.
    guess
        The highest score that guessing can reach, 0 to 1.
    """

    control: str
    run_id: str
    right: dict[str, int]
    songs: int
    guess: float

    @property
    def scores(self) -> dict[str, Score]:
        """The scores by name, with their exact intervals."""
        return {name: exact_share(right, self.songs) for name, right in self.right.items()}

    @property
    def above(self) -> tuple[str, ...]:
        """The names of scores above guessing."""
        return tuple(
            name for name, right in self.right.items() if against(right, self.songs, self.guess).higher
        )

    @property
    def verdict(self) -> str:
        """The result in a sentence."""
        learned, who = CONTROLS[self.control], " and the ".join(self.above)
        if not self.above:
            return f"Passed: learns nothing from {learned}."
        return (
            f"Failed, unless by chance: the {who} scored above guessing on {learned}. "
            "By chance, one score in forty does; try another seed."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        data = {"control": self.control, "run_id": self.run_id, "guess": self.guess}
        return data | {"scores": {k: list(v) for k, v in self.scores.items()}, "above": list(self.above)}


def control_of(control: str, run_id: str, metrics: dict[str, float], rows: Rows) -> Control:
    """Make the result of a control run.

    Parameters
    ----------
    control
        Kind of the control: "labels", "silence" or "noise".
    run_id
        Id of the run.
    metrics
        Its metrics.
    rows
        Its predictions, as `mer.runs.results.read_predictions` returns them.

    Raises
    ------
    RunError
        If there are no predictions.
    """
    keys = {"network": "test_song_accuracy", "SVM": "svm_song_accuracy"}
    guess, songs = guess_of(rows), len({row["song"] or row["clip"] for row in rows})
    right = {name: round(metrics[key] * songs) for name, key in keys.items() if key in metrics}
    return Control(control, run_id, right, songs, guess)


def guess_of(rows: Rows) -> float:
    """The highest score by song that guessing can reach: chance, or always naming the largest class.

    Raises RunError if there are no predictions.
    """
    if not rows:
        raise RunError("this run saved no predictions; train it again")
    classes = sorted(rows[0]["probabilities"])
    truth = np.array([classes.index(row["label"]) for row in rows])
    songs, _, _ = pool_by([row["song"] or row["clip"] for row in rows], truth, np.eye(len(classes))[truth])
    return max(1 / len(classes), majority_accuracy(songs))

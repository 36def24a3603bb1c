"""Measures how much a score rises if clips of one song are in both training and test part."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mer.metrics.comparison import Rows
from mer.metrics.score import Score
from mer.metrics.scores import bootstrap_interval, wilson_interval
from mer.runs.run import Run

__all__ = ["Leak", "leak_of", "pairs"]


@dataclass(frozen=True, slots=True)
class Leak:
    """Comparison of two runs that differ only in their split: the first keeps songs apart.

    Parameters
    ----------
    kept, parted
        Accuracy by clip of the run that keeps songs apart, and of the run that does not. They are by clip,
        since a song of which only some clips are tested has no score of its own.
    difference
        parted - kept.
    same
        True if both gave the same answers to the same clips. Their splits were then the same.
    """

    kept: Score
    parted: Score
    difference: Score
    same: bool = False

    @property
    def meaning(self) -> str:
        """The conclusion from the difference, in a sentence."""
        if self.same:
            return (
                "Both runs are the same, so this shows nothing: the data set brings its own split, "
                "or has one clip of each song."
            )
        if self.difference.low > 0:
            return "Songs on both sides raise the score: learning from a clip helps with others of its song."
        if self.difference.high < 0:
            return "Songs on both sides lower the score, which is unexpected: check the splits."
        return "No leak can be seen with so few songs; this does not prove that there is none."

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def pairs(runs: Iterable[Run]) -> list[tuple[Run, Run]]:
    """Pairs of runs with the same request, except that the first keeps songs apart and the second does not.

    Of several runs with the same request, the newest is used. Folds, ensembles and runs that are not finished
    are left out. The pair with the newest run comes first.
    """
    sides: dict[tuple[str, str | None], dict[bool, Run]] = {}
    for run in sorted(runs, key=lambda run: -run.started):
        if run.status == "finished" and not run.parent and not run.members:
            keeps_apart, request = _request(run)
            sides.setdefault((request, run.data_hash), {}).setdefault(keeps_apart, run)
    return [(found[True], found[False]) for found in sides.values() if len(found) == 2]


def _request(run: Run) -> tuple[bool, str]:
    """True if a run keeps songs apart, and the rest of its request as JSON, without the command line."""
    spec = json.loads(json.dumps(run.spec))
    spec.pop("command", None)
    split = spec.get("config", {}).get("split", {})
    return split.pop("group_by_song", True), json.dumps(spec, sort_keys=True)


def leak_of(kept: Rows, parted: Rows) -> Leak:
    """Compare the predictions of a run that kept songs apart with those of one that did not.

    Intervals resample songs. A song that was tested in both runs is drawn for both at once. A clip without
    a song counts as a song; in the second run, songs are not found by sound.

    Parameters
    ----------
    kept, parted
        Predictions of the two runs, as `mer.runs.results.read_predictions` returns them. Their clips may
        differ.
    """
    rows = [*kept, *parted]
    right = np.array([row["predicted"] == row["label"] for row in rows], float)
    second = np.arange(len(rows)) >= len(kept)
    songs = [row["song"] or row["clip"] for row in rows]

    def difference(chosen: np.ndarray) -> float:
        """Difference of the accuracies on rows with these indices; 0 if they are of one run only."""
        sides = [right[chosen][second[chosen] == side] for side in (False, True)]
        return float(sides[1].mean() - sides[0].mean()) if all(map(len, sides)) else 0.0

    everything = np.arange(len(rows))
    return Leak(
        _score(right[~second], songs[: len(kept)]),
        _score(right[second], songs[len(kept) :]),
        Score(difference(everything), *_spread(difference, right, songs)),
        _answers(kept) == _answers(parted),
    )


def _answers(rows: Rows) -> list[tuple[Any, ...]]:
    return sorted((row["clip"], row["predicted"], *row["probabilities"].values()) for row in rows)


def _score(right: np.ndarray, songs: list[str]) -> Score:
    return Score(float(right.mean()), *bootstrap_interval(lambda chosen: float(right[chosen].mean()), songs))


def _spread(
    difference: Callable[[np.ndarray], float], right: np.ndarray, songs: list[str]
) -> tuple[float, float]:
    """95% interval of a difference. If all answers are right, or all wrong, its width is Wilson's."""
    if (right == right[0]).all():
        spread = wilson_interval(0, len(set(songs)))[1]
        return -spread, spread
    return bootstrap_interval(difference, songs)

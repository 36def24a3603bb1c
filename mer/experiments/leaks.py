"""Measures how much a score rises if clips of one song are in both training and test part."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any

from mer.metrics.comparison import Rows, compare
from mer.metrics.score import Score
from mer.metrics.verdict import Verdict, exact_share, unpaired
from mer.runs.run import Run

__all__ = ["Leak", "leak_of", "pairs"]


@dataclass(frozen=True, slots=True)
class Leak:
    """Comparison of two runs that differ only in their split: the first keeps songs apart.

    Parameters
    ----------
    kept, parted
        Share of songs that are right, with its interval: of the run that keeps songs apart, and of the run
        that does not.
    verdict
        Whether the second is higher.
    same
        True if both gave the same answers to the same clips. Their splits were then the same.
    songs_known
        False if the second run has clips without a song. Each then counts as a song.
    """

    kept: Score
    parted: Score
    verdict: Verdict
    same: bool = False
    songs_known: bool = True

    @property
    def meaning(self) -> str:
        """The conclusion in a sentence or two."""
        if self.same:
            return (
                "Both runs are the same, so this shows nothing: the data set brings its own split, "
                "or has one clip of each song."
            )
        doubt = (
            ""
            if self.songs_known
            else " Songs of the second run are not known; each clip counts as one, so p is too small."
        )
        return (
            self.verdict.words(
                "Songs on both sides raise the score: a clip in training helps with others of its song",
                "Songs on both sides lower the score, which is unexpected: check the splits",
                "No leak can be told from chance, which does not prove that there is none",
            )
            + f".{doubt}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        data = asdict(self)
        found = data.pop("verdict")
        return data | {"difference": found["difference"], "p": found["p_value"]}


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

    If both were tested on the same clips, as in a cross-validation, they are compared song by song. Otherwise
    a song counts by one of its clips, in both runs: an answer to a whole song is right more often than one to
    a part of it. Songs in both runs make the result cautious (see `mer.metrics.verdict.unpaired`). A clip
    without a song counts as a song; in the second run, songs are not found by sound.

    Parameters
    ----------
    kept, parted
        Predictions of the two runs, as `mer.runs.results.read_predictions` returns them. Their clips may
        differ.
    """
    more = {
        "same": _answers(kept) == _answers(parted),
        "songs_known": all(row["song"] for row in parted),
    }
    if {row["clip"] for row in kept} == {row["clip"] for row in parted}:
        found = compare(kept, parted, classes=sorted(kept[0]["probabilities"]))
        counts = [(round(share * found.n_songs), found.n_songs) for share in (found.first, found.second)]
        verdict = found.verdict
    else:
        counts = [_one_of_each(kept), _one_of_each(parted)]
        verdict = unpaired(*counts)
    return Leak(*(exact_share(*count) for count in counts), verdict, **more)


def _answers(rows: Rows) -> list[tuple[Any, ...]]:
    return sorted((row["clip"], row["predicted"], *row["probabilities"].values()) for row in rows)


def _one_of_each(rows: Rows) -> tuple[int, int]:
    """Songs that are right by one of their clips, and all songs. A hash of its name chooses the clip."""
    ranked = sorted(rows, key=lambda row: blake2b(row["clip"].encode()).digest())
    chosen = {row["song"] or row["clip"]: row["predicted"] == row["label"] for row in ranked}
    return sum(chosen.values()), len(chosen)

"""Labels by vote: a column per class that holds how many listeners, or which share of them, chose it.

Wherever a label column is named, several can be: `calm,tense,sad`, or with class names of their own
`Romantic=tenderness,Happy=joyful_activation`. What is learned then are the shares of all votes.

Some classes are named for almost any music, others seldom. `relative:calm,tense,sad` takes that out: a class
counts by how many standard deviations its votes lie above its mean over songs, and the softmax of these is
learned. The label is the class that stands out most, even where another has more votes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mer.metrics.probabilities import softmax
from mer.utils.errors import DataError

__all__ = ["Votes", "vote_columns", "votes_of"]

RELATIVE = "relative:"


@dataclass(frozen=True, slots=True)
class Votes:
    """The column with the votes of each class, in order; `relative` to what is usual, or not."""

    columns: dict[str, str]
    relative: bool = False

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes in order."""
        return tuple(self.columns)

    def distributions(self, votes: np.ndarray, songs: Sequence[str]) -> np.ndarray:
        """What is learned of clips: votes (clips, classes), not all 0 -> rows summing to 1.

        `songs` names the song of each clip; every song weighs the same in what is usual.
        """
        if not self.relative:
            return votes / votes.sum(axis=1, keepdims=True)
        _, first, song = np.unique(songs, return_index=True, return_inverse=True)
        sums = np.zeros((len(first), votes.shape[1]))
        np.add.at(sums, song, votes)
        means = sums / np.bincount(song)[:, None]
        usual, spread = means.mean(axis=0), means.std(axis=0)
        differs = spread > 1e-9 * usual  # more than rounding does
        above = np.divide(votes - usual, spread, out=np.zeros_like(votes), where=differs)
        return softmax(above)


def vote_columns(text: str, columns: Sequence[str]) -> Votes | None:
    """The columns that `text` names; None if it names one ordinary column.

    Raises DataError if a class is named twice, or there is no such column.
    """
    if text in columns or not {",", "="} & set(text):
        return None
    relative, given = text.startswith(RELATIVE), text.removeprefix(RELATIVE)
    found: dict[str, str] = {}
    for part in given.split(","):
        name, _, column = (word.strip() for word in part.rpartition("="))
        name = name or column
        if not name or name in found:
            raise DataError(f"label column {text!r}: name each class once, as in Happy=joy,Sad=sadness")
        if column not in columns:
            raise DataError(f"label column {text!r}: no column {column!r}; there are: {', '.join(columns)}")
        found[name] = column
    if len(found) < 2:
        raise DataError(f"label column {text!r}: votes need at least two classes")
    return Votes(found, relative)


def votes_of(row: Mapping[str, str], columns: Mapping[str, str], *, where: str) -> list[float] | None:
    """The votes of each class, not all 0; None without any vote.

    Raises DataError for what is no number, or below 0.
    """
    votes = []
    for column in columns.values():
        try:
            value = float(row[column].strip() or 0)
        except ValueError:
            value = -1.0
        if not (math.isfinite(value) and value >= 0):
            raise DataError(f"{where}: {column}={row[column]!r} should be a number of votes, or a share")
        votes.append(value)
    return votes if any(votes) else None

"""Labels from votes: for each class a column with the number, or share, of listeners who chose it.

A label column may name several columns: `calm,tense,sad`, or with other names for the classes
`Romantic=tenderness,Happy=joyful_activation`. The network then learns each clip's shares of the votes.

Listeners choose some classes for almost any music and others rarely. `relative:calm,tense,sad` removes this
difference: the votes of a class are expressed in standard deviations above its mean over songs, and the
network learns the softmax of these. The label is then the class that is furthest above its mean, even if
another has more votes.
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
    """The columns that hold the votes.

    Parameters
    ----------
    columns
        Class -> column, in the order of the classes.
    relative
        Whether votes are taken relative to the mean over songs.
    """

    columns: dict[str, str]
    relative: bool = False

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes in order."""
        return tuple(self.columns)

    def distributions(self, votes: np.ndarray, songs: Sequence[str]) -> np.ndarray:
        """The distribution that the network learns for each clip.

        Parameters
        ----------
        votes
            Votes of shape (clips, classes), not all 0 in a row.
        songs
            Song of each clip. If `relative`, every song has the same weight in means and deviations.

        Returns
        -------
        np.ndarray
            Shape (clips, classes); rows sum to 1.
        """
        if not self.relative:
            return votes / votes.sum(axis=1, keepdims=True)
        _, first, song = np.unique(songs, return_index=True, return_inverse=True)
        sums = np.zeros((len(first), votes.shape[1]))
        np.add.at(sums, song, votes)
        means = sums / np.bincount(song)[:, None]
        usual, spread = means.mean(axis=0), means.std(axis=0)
        differs = spread > 1e-9 * usual  # by more than rounding errors
        above = np.divide(votes - usual, spread, out=np.zeros_like(votes), where=differs)
        return softmax(above)


def vote_columns(text: str, columns: Sequence[str]) -> Votes | None:
    """Parse the name of a label column; None if it names one ordinary column.

    Raises DataError if a class is named twice, a column does not exist, or there are fewer than two classes.
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
    """The votes of a row for each class, or None if there are none.

    Parameters
    ----------
    row
        Column -> text.
    columns
        Class -> column.
    where
        Place of the row, for error messages.

    Raises
    ------
    DataError
        If a vote is not a number or is negative.
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

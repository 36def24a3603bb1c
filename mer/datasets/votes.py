"""Labels by vote: a column per class that holds how many listeners, or which share of them, chose it.

Wherever a label column is named, several can be: `calm,tense,sad`, or with class names of their own
`Romantic=tenderness,Happy=joyful_activation`.
"""

import math
from collections.abc import Mapping, Sequence

from mer.errors import DataError

__all__ = ["shares_of", "vote_columns"]


def vote_columns(text: str, columns: Sequence[str]) -> dict[str, str]:
    """The column of each class that `text` names, in its order; empty if it names one ordinary column.

    Raises DataError if a class is named twice, or there is no such column.
    """
    if text in columns or not {",", "="} & set(text):
        return {}
    found: dict[str, str] = {}
    for part in text.split(","):
        name, _, column = (word.strip() for word in part.rpartition("="))
        name = name or column
        if not name or name in found:
            raise DataError(f"label column {text!r}: name each class once, as in Happy=joy,Sad=sadness")
        if column not in columns:
            raise DataError(f"label column {text!r}: no column {column!r}; there are: {', '.join(columns)}")
        found[name] = column
    if len(found) < 2:
        raise DataError(f"label column {text!r}: votes need at least two classes")
    return found


def shares_of(row: Mapping[str, str], columns: Mapping[str, str], *, where: str) -> tuple[float, ...] | None:
    """The share of all votes that each class has, summing to 1; None without any vote.

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
    total = sum(votes)
    return tuple(value / total for value in votes) if total > 0 else None

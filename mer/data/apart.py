"""Whether clips of a run's test songs were also among those it learned from, which raises its scores.

A run counts as such by its split, measured song by song when it begins. Runs of an older mer recorded only
whether songs were to be kept apart.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mer.data.splits import Split

__all__ = ["MARKS", "PARTED", "UNCHECKED", "leak_mark", "measured_leak", "worst_leak"]

PARTED, UNCHECKED = "test songs were in training", "songs not checked"
MARKS = {  # each mark, from best to worst, and what it means
    "": "",
    UNCHECKED: "Its songs are not known, so clips of one song may be in both training and test.",
    PARTED: "Clips of its test songs were in training, so its scores are too high for unheard songs.",
}


def measured_leak(songs: Sequence[str] | np.ndarray, split: Split) -> str:
    """The mark of a split, by its songs.

    Parameters
    ----------
    songs
        The song of each clip, or a key of it; "" or 0 if it is unknown.
    split
        Indices of the clips in each part. Validation clips count as learned from.

    Returns
    -------
    str
        PARTED if a song is on both sides, UNCHECKED if a song is unknown, else "".
    """
    column = np.asarray(songs)
    known = column != column.dtype.type()
    learned = np.concatenate([np.asarray(part, int) for part in (split.train, split.validation)])
    tested = np.asarray(split.test, int)
    learned, tested = learned[known[learned]], tested[known[tested]]
    if np.isin(column[tested], column[learned]).any():
        return PARTED
    return "" if known.all() else UNCHECKED


def worst_leak(marks: Sequence[str]) -> str:
    """The mark of a cross-validation, from those of its folds."""
    return max(marks, key=list(MARKS).index)


def leak_mark(recorded: object, split: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    """The mark of a run or a checkpoint: "" if its songs were kept apart.

    Parameters
    ----------
    recorded
        The mark that was recorded with it; anything else for an older mer.
    split
        The settings of its split.
    figures
        `n_songs` and `n_clips` of its test part, if it was tested.

    Returns
    -------
    str
        One of MARKS. Without a record, a run that was tested and did not keep songs apart is PARTED, unless
        each test clip counted as a song: then no songs were known.
    """
    if isinstance(recorded, str) and recorded in MARKS:
        return recorded
    songs, clips = figures.get("n_songs"), figures.get("n_clips")
    tested = isinstance(songs, int | float) and isinstance(clips, int | float)
    if split.get("group_by_song", True) or not tested:
        return ""
    return PARTED if songs < clips else UNCHECKED

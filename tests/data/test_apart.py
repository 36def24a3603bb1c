"""Whether test songs were in training: measured by song, and inferred for runs of an older mer."""

import numpy as np
import pytest

from mer.data.apart import MARKS, PARTED, UNCHECKED, leak_mark, measured_leak, worst_leak
from mer.data.splits import Split

SPLIT = Split(train=(0, 1), validation=(2,), test=(3, 4))


@pytest.mark.parametrize(
    ("songs", "mark"),
    [
        ("aabcc", ""),
        ("aabca", PARTED),
        ("aabbc", PARTED),  # a song in validation and test
        (["a", "", "b", "c", "c"], UNCHECKED),
        (["a", "", "b", "", "a"], PARTED),  # what is known suffices
        ([""] * 5, UNCHECKED),
        (np.array([7, 7, 8, 9, 9], np.uint64), ""),
        (np.array([7, 7, 8, 9, 7], np.uint64), PARTED),
    ],
)
def test_the_mark_says_whether_a_song_is_on_both_sides(songs, mark):
    assert measured_leak(list(songs) if isinstance(songs, str) else songs, SPLIT) == mark


@pytest.mark.parametrize(
    ("recorded", "grouped", "figures", "mark"),
    [
        ("", False, {"n_songs": 5, "n_clips": 9}, ""),  # the split of the manifest kept songs apart
        (PARTED, True, {}, PARTED),
        (UNCHECKED, True, {}, UNCHECKED),
        (None, True, {"n_songs": 5, "n_clips": 9}, ""),
        (None, False, {"n_songs": 5.0, "n_clips": 9.0}, PARTED),
        (None, False, {"n_songs": 9, "n_clips": 9}, UNCHECKED),
        (None, False, {}, ""),  # it has no score yet
        (["?"], False, {"n_songs": "5", "n_clips": None}, ""),  # a card from elsewhere
    ],
)
def test_what_was_recorded_counts_and_else_what_was_asked_for(recorded, grouped, figures, mark):
    assert leak_mark(recorded, {"group_by_song": grouped}, figures) == mark


def test_a_cross_validation_is_as_good_as_its_worst_fold():
    assert worst_leak(["", UNCHECKED, ""]) == UNCHECKED
    assert worst_leak(["", PARTED, UNCHECKED]) == PARTED
    assert worst_leak(["", ""]) == ""
    assert all(MARKS[mark] for mark in (UNCHECKED, PARTED))

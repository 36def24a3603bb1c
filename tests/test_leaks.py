"""The leak of a split is measured by clip, with an interval over songs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer.leaks import leak_of


def rows(right):
    """A row for each (song, whether it was answered rightly)."""
    return [
        {"clip": f"{song}/{number}", "song": song, "label": "A", "predicted": "A" if hit else "B"}
        for number, (song, hit) in enumerate(right)
    ]


def test_the_difference_is_that_of_the_shares_of_right_clips():
    kept = rows([("a", True), ("a", False), ("b", False), ("b", False)])
    parted = rows([("a", True), ("b", True), ("c", False)])
    found = leak_of(kept, parted)
    assert (found.kept[0], found.parted[0]) == pytest.approx((1 / 4, 2 / 3))
    assert found.difference[0] == pytest.approx(2 / 3 - 1 / 4)


def test_a_large_leak_over_many_songs_is_no_chance():
    kept = rows([(f"song {n // 3}", n // 3 % 3 == 0) for n in range(300)])
    parted = rows([(f"song {n // 3}", n // 3 % 3 > 0) for n in range(300)])
    assert leak_of(kept, parted).difference[1] > 0.1
    assert leak_of(parted, kept).difference[2] < -0.1


def test_where_every_answer_is_right_there_is_doubt_to_either_side():
    found = leak_of(rows([("a", True), ("b", True)]), rows([("a", True), ("c", True)]))
    value, low, high = found.difference
    assert value == 0
    assert -1 < low == -high < 0


def test_clips_without_a_song_count_as_songs():
    alone = [row | {"song": None} for row in rows([("a", n % 2 == 0) for n in range(40)])]
    together = rows([("a", n % 2 == 0) for n in range(40)])
    widths = [found.kept[2] - found.kept[1] for found in (leak_of(alone, alone), leak_of(together, together))]
    assert widths[0] > 0.2
    assert widths[1] == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=12))
def test_a_run_has_no_leak_against_itself(right):
    found = leak_of(rows(right), rows(right))
    value, low, high = found.difference
    assert value == 0
    assert low <= 0 <= high
    assert found.to_dict()["kept"] == found.to_dict()["parted"]

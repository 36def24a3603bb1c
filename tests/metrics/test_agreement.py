"""Agreement among listeners."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer.metrics.agreement import alpha, alpha_score, plurality, share_score

counts = st.lists(st.tuples(*[st.integers(0, 5)] * 3), min_size=1, max_size=8).map(np.array)


def test_alpha_of_the_example_that_krippendorff_works_out():
    """Four observers and twelve units with values missing: 0.743 (2011, section D)."""
    observers = ("123321412...", "1233224125.3", ".3332342251.", "12332441251.")
    rows = [[sum(one[unit] == value for one in observers) for value in "12345"] for unit in range(12)]
    assert alpha(np.array(rows)) == pytest.approx(0.743, abs=5e-4)


@given(counts)
def test_alpha_is_at_most_1_and_does_not_depend_on_any_order(rows):
    found = alpha(rows)
    assert math.isnan(found) or found <= 1
    assert alpha(rows[::-1]) == pytest.approx(found, nan_ok=True)
    assert alpha(rows[:, ::-1]) == pytest.approx(found, nan_ok=True)


def test_alpha_is_1_if_all_agree_and_below_0_if_they_disagree_more_than_by_chance():
    assert alpha(np.array([[5, 0], [0, 4]])) == 1
    assert alpha(np.array([[1, 1], [1, 1], [1, 1]])) < 0


def test_alpha_of_votes_by_chance_is_near_0():
    rows = np.random.default_rng(0).multinomial(30, [0.2, 0.3, 0.5], size=500)
    assert abs(alpha(rows)) < 0.01


@pytest.mark.parametrize(
    "rows", [[[0, 0]], [[1, 0], [0, 1]], [[3, 0], [2, 0]]], ids=["none", "single", "one class"]
)
def test_alpha_is_not_defined_without_two_votes_on_a_clip_and_two_classes(rows):
    assert math.isnan(alpha(np.array(rows)))
    assert math.isnan(alpha_score(np.array(rows), ["a", "b"][: len(rows)]).low)


def test_the_interval_of_alpha_holds_its_value_and_narrows_with_more_songs():
    rng = np.random.default_rng(1)
    rows = np.array([rng.multinomial(10, [0.8, 0.2] if clip % 2 else [0.2, 0.8]) for clip in range(80)])
    few, many = (alpha_score(rows[:n], [str(clip) for clip in range(n)]) for n in (8, 80))
    assert few.low < few.value < few.high
    assert many.high - many.low < few.high - few.low


def test_clips_of_one_song_count_as_one_in_the_interval():
    shares = np.array([1.0, 0.0] * 10)
    apart = share_score(shares, [str(clip) for clip in range(20)])
    together = share_score(shares, [str(clip % 2) for clip in range(20)])
    assert apart.value == together.value == 0.5
    assert together.high - together.low > apart.high - apart.low


def test_the_plurality_is_undecided_on_a_tie_and_without_votes():
    assert plurality(np.array([[2, 1], [1, 1], [0, 0], [0, 3]])) == [0, None, None, 1]

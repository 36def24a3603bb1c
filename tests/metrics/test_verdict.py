"""Which of two scores is higher: one table reads as the rule; words, interval and p-value always agree."""

import itertools
import math
import re

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from mer.metrics.score import Score
from mer.metrics.verdict import Verdict, against, exact_share, paired, standing, standing_of, unpaired


def said(verdict):
    return verdict.words("higher", "lower")


# only the first is right, only the second, all songs
PAIRS = {
    "a large gap on many songs": ((2, 15, 60), "higher (p = 0.0023)"),
    "the same gap the other way": ((15, 2, 60), "lower (p = 0.0023)"),
    "a small gap on many songs": ((5, 7, 60), "cannot be told apart (p = 0.77)"),
    "70% against 20% of ten songs": ((0, 5, 10), "cannot be told apart (p = 0.062)"),
    "90% against 20% of ten songs": ((0, 7, 10), "higher (p = 0.016)"),
    "44% of the SVM against 40%": ((4, 3, 25), "cannot be told apart (p = 1)"),
    "right on the same songs": ((0, 0, 60), "cannot be told apart (p = 1)"),
    "as many songs, but others": ((9, 9, 60), "cannot be told apart (p = 1)"),
    "a tiny gap on a thousand songs": ((0, 30, 1000), "higher (p < 0.001)"),
    "all against none of five songs": ((0, 5, 5), "cannot be told apart (at least 6 songs needed)"),
    "all against none of six songs": ((0, 6, 6), "higher (p = 0.031)"),
    "one song": ((0, 1, 1), "cannot be told apart (at least 6 songs needed)"),
}
# (right, songs) of the first run, and of the second
OTHERS = {
    "a leak: 88% of 40 songs against 55% of 20": (((11, 20), (35, 40)), "higher (p = 0.015)"),
    "a leak that few songs cannot show": (((5, 10), (7, 10)), "cannot be told apart (p = 0.65)"),
    "songs on both sides score lower": (((18, 20), (8, 20)), "lower (p = 0.0022)"),
    "three songs on each side": (
        ((0, 3), (3, 3)),
        "cannot be told apart (at least 4 songs on each side needed)",
    ),
    "four songs on each side": (((0, 4), (4, 4)), "higher (p = 0.029)"),
    "the same share": (((5, 10), (10, 20)), "cannot be told apart (p = 1)"),
}
# right songs, all songs, and the fixed share
FIXED = {
    "53% of 300 songs against chance": ((159, 300, 0.2), "higher (p < 0.001)"),
    "a control run that guesses": ((5, 25, 0.24), "cannot be told apart (p = 0.85)"),
    "a control run that learned": ((14, 25, 0.24), "higher (p = 0.0012)"),
    "fewer than the largest class": ((2, 30, 0.3), "lower (p = 0.0042)"),
    "two songs against a fifth": ((2, 2, 0.2), "cannot be told apart (at least 3 songs needed)"),
    "three songs against a fifth": ((3, 3, 0.2), "higher (p = 0.016)"),
    "nothing right where guessing is always right": ((0, 4, 1.0), "lower (p < 0.001)"),
}


@pytest.mark.parametrize(("counts", "words"), PAIRS.values(), ids=PAIRS)
def test_two_runs_on_the_same_songs(counts, words):
    assert said(paired(*counts)) == words


@pytest.mark.parametrize(("counts", "words"), OTHERS.values(), ids=OTHERS)
def test_two_runs_on_different_songs(counts, words):
    assert said(unpaired(*counts)) == words


@pytest.mark.parametrize(("counts", "words"), FIXED.values(), ids=FIXED)
def test_a_run_against_a_fixed_share(counts, words):
    assert said(against(*counts)) == words


# --- interval, p-value and words agree --------------------------------------------------------------


def agrees(found: Verdict) -> None:
    """Assert that the p-value is below 0.05 exactly if the interval excludes 0, also as they are written."""
    value, low, high = found.difference
    assert -1 <= low <= value <= high <= 1
    assert 0 <= found.p_value <= 1
    assert (found.p_value < 0.05) == (not low <= 0 <= high) == found.told
    assert found.higher == (low > 0)
    assert found.lower == (high < 0)
    assert not (found.told and found.needed)
    words = said(found)
    assert words.startswith("higher") == (low > 0)
    assert words.startswith("lower") == (high < 0)
    if shown := re.search(r"p = (\S+)\)", words):
        assert (float(shown[1]) < 0.05) == found.told
    written = [float(text) for text in re.findall(r"[+-][\d.e-]+", found.difference.points.split("(")[1])]
    assert (not written[0] <= 0 <= written[1]) == found.told


@st.composite
def pairs_of_runs(draw, most=400):
    songs = draw(st.integers(1, most))
    first = draw(st.integers(0, songs))
    return first, draw(st.integers(0, songs - first)), songs


counts = st.integers(1, 200).flatmap(lambda songs: st.tuples(st.integers(0, songs), st.just(songs)))


@given(pairs_of_runs())
def test_on_the_same_songs_p_is_below_5_percent_exactly_if_the_interval_excludes_0(numbers):
    agrees(paired(*numbers))


@given(counts, counts)
def test_on_different_songs_p_is_below_5_percent_exactly_if_the_interval_excludes_0(first, second):
    agrees(unpaired(first, second))


@given(counts, st.floats(0, 1))
def test_against_a_share_p_is_below_5_percent_exactly_if_the_interval_excludes_0(count, share):
    agrees(against(*count, share))


@given(pairs_of_runs(), counts, counts)
def test_exchanging_the_two_turns_the_difference_and_keeps_the_p_value(numbers, one, other):
    first, second, songs = numbers
    for found, turned in (
        (paired(first, second, songs), paired(second, first, songs)),
        (unpaired(one, other), unpaired(other, one)),
    ):
        value, low, high = found.difference
        assert turned.difference == pytest.approx((-value, -high, -low))
        assert (turned.p_value, turned.needed) == (pytest.approx(found.p_value), found.needed)
        assert (turned.higher, turned.lower) == (found.lower, found.higher)


@given(pairs_of_runs(most=40))
def test_more_songs_that_only_the_second_gets_right_never_lower_the_difference(numbers):
    first, second, songs = numbers
    one, more = (paired(first, number, songs + 1).difference for number in (second, second + 1))
    assert all(after >= before - 1e-9 for before, after in zip(one, more, strict=True))


# --- against other implementations ------------------------------------------------------------------


@given(pairs_of_runs())
def test_the_paired_p_value_is_that_of_a_fair_coin(numbers):
    first, second, _ = numbers
    coin = scipy.stats.binomtest(first, first + second).pvalue if first + second else 1
    assert paired(*numbers).p_value == pytest.approx(coin)


@given(counts, counts)
def test_the_unpaired_p_value_is_twice_the_smaller_tail_of_fishers_test(first, second):
    table = [[second[0], second[1] - second[0]], [first[0], first[1] - first[0]]]
    tails = [scipy.stats.fisher_exact(table, side).pvalue for side in ("less", "greater")]
    assert unpaired(first, second).p_value == pytest.approx(min(1, 2 * min(tails)), rel=1e-6, abs=1e-12)


@given(counts, st.floats(0.01, 0.99))
def test_a_share_has_clopper_and_pearsons_interval_and_the_binomial_tails(count, share):
    theirs = scipy.stats.binomtest(*count).proportion_ci()
    assert exact_share(*count) == pytest.approx((count[0] / count[1], theirs.low, theirs.high))
    tails = [scipy.stats.binomtest(*count, share, side).pvalue for side in ("less", "greater")]
    assert against(*count, share).p_value == pytest.approx(min(1, 2 * min(tails)), abs=1e-12)


def test_the_paired_interval_is_the_quantile_of_its_distribution_drawn_at_random():
    rng, size = np.random.default_rng(3), 400_000
    won, lost, songs = 15, 6, 60
    share = 2 * rng.beta(won, lost + 1, size) - 1
    few, many = rng.beta(21, 40, size), rng.beta(22, 39, size)
    drawn = np.quantile(share * np.where(share > 0, few, many), 0.025)
    assert paired(lost, won, songs).difference.low == pytest.approx(drawn, abs=0.002)


def test_the_unpaired_interval_is_the_quantile_of_its_distribution_drawn_at_random():
    rng, size = np.random.default_rng(4), 400_000
    drawn = np.quantile(rng.beta(35, 6, size) - rng.beta(12, 9, size), 0.025)
    assert unpaired((11, 20), (35, 40)).difference.low == pytest.approx(drawn, abs=0.002)


@pytest.mark.parametrize("songs", [6, 15])
def test_the_paired_interval_covers_the_true_difference_in_95_of_100_cases(songs):
    found = {
        (first, second): paired(first, second, songs).difference
        for first, second in itertools.product(range(songs + 1), repeat=2)
        if first + second <= songs
    }
    for apart, share in itertools.product((0.05, 0.2, 0.5, 0.8, 1), (0, 0.2, 0.5, 0.7, 0.9, 1)):
        true = apart * (2 * share - 1)
        chances = scipy.stats.multinomial(songs, [apart * (1 - share), apart * share, 1 - apart])
        covered = math.fsum(
            chances.pmf([first, second, songs - first - second])
            for (first, second), gap in found.items()
            if gap.low - 1e-9 <= true <= gap.high + 1e-9
        )
        assert covered >= 0.95


# --- words and refusals -----------------------------------------------------------------------------


def test_no_p_value_is_written_as_one_on_the_other_side_of_5_percent():
    texts = [Verdict(Score(0.1, 0.01, 0.2), p).chance for p in (0.04999, 0.0496, 0.05, 0.0504, 0.0004)]
    assert texts == ["p = 0.04999", "p = 0.0496", "p = 0.05", "p = 0.05", "p < 0.001"]


FIGURES = {"song_accuracy": 0.4, "n_songs": 25, "majority": 0.24, "chance": 0.2}


def test_a_network_below_its_svm_is_not_called_better():
    figures = FIGURES | {"svm": {"only_svm": 4, "only_network": 3}}
    assert standing(figures) == (
        "against guessing: cannot be told apart (p = 0.11), against the SVM: cannot be told apart (p = 1)"
    )
    assert "against the SVM: below (p = 0.016)" in standing(
        figures | {"svm": {"only_svm": 7, "only_network": 0}}
    )


def test_metrics_of_a_run_say_the_same_as_its_scores():
    metrics = {"test_song_accuracy": 0.4, "n_songs": 25.0, "majority": 0.24, "chance": 0.2}
    assert standing_of(metrics) == standing(FIGURES)
    alone = {"songs_only_svm": 4.0, "songs_only_network": 3.0}
    assert standing_of(metrics | alone) == standing(FIGURES | {"svm": {"only_svm": 4, "only_network": 3}})


def test_without_an_svm_or_with_one_of_an_older_mer_only_guessing_is_named():
    wanted = "against guessing: cannot be told apart (p = 0.11)"
    assert standing(FIGURES) == standing(FIGURES | {"svm": {"song_accuracy": 0.44}}) == wanted


@pytest.mark.parametrize("numbers", [(-1, 0, 5), (3, 3, 5), (0, 0, 0)])
def test_counts_that_cannot_be_are_refused(numbers):
    with pytest.raises(ValueError, match="cannot be; give counts of songs"):
        paired(*numbers)


@pytest.mark.parametrize("numbers", [(6, 5, 0.5), (-1, 5, 0.5), (0, 0, 0.5), (1, 5, 1.1), (1, 5, math.nan)])
def test_shares_that_cannot_be_are_refused(numbers):
    with pytest.raises(ValueError, match="cannot be; give counts and a share"):
        against(*numbers)

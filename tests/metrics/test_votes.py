"""Agreement with listeners: worked out by hand, and what must hold for any two distributions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import jensenshannon

from mer.metrics.votes import agreement_with_votes, divergence, overlap, votes_won

CLASSES = 4
weights = arrays(float, st.tuples(st.integers(1, 12), st.just(CLASSES)), elements=st.floats(0, 1))


@st.composite
def pairs(draw):
    """Two lists of distributions, as long as each other; often with zeros."""
    first = draw(weights)
    second = draw(arrays(float, first.shape, elements=st.floats(0, 1)))
    return tuple((rows + 1e-9) / (rows + 1e-9).sum(axis=1, keepdims=True) for rows in (first, second))


def test_figures_of_one_clip_by_hand():
    votes, said = np.array([[0.5, 0.3, 0.2]]), np.array([[0.2, 0.7, 0.1]])
    assert overlap(votes, said)[0] == pytest.approx(0.2 + 0.3 + 0.1)
    assert votes_won(votes, said)[0] == 0.3


def test_predictions_equal_to_the_votes_agree_fully():
    votes = np.array([[0.5, 0.5], [0.9, 0.1]])
    found = agreement_with_votes(votes, votes, ["a", "b"])
    assert (found["overlap"], found["divergence"]) == (1, 0)
    assert found["votes_won"] == found["most_votes"] == pytest.approx(0.7)


def test_predictions_without_votes_do_not_agree():
    votes, said = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    assert overlap(votes, said)[0] == votes_won(votes, said)[0] == 0
    assert divergence(votes, said)[0] == 1


def test_the_same_answer_for_every_clip_is_there_to_compare_with():
    votes = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert agreement_with_votes(votes, votes, ["a", "b"])["usual"] == 0.5


@given(pairs())
def test_the_divergence_is_that_of_scipy(rows):
    theirs = jensenshannon(*rows, axis=1, base=2) ** 2
    assert divergence(*rows) == pytest.approx(theirs, abs=1e-6)


@given(pairs())
def test_agreement_is_symmetric_and_between_0_and_1(rows):
    for figure in (overlap, divergence):
        assert figure(*rows) == pytest.approx(figure(*rows[::-1]))
        assert ((figure(*rows) >= 0) & (figure(*rows) <= 1 + 1e-12)).all()


@given(pairs())
@settings(max_examples=5)  # each draws thousands of bootstrap samples
def test_no_prediction_wins_more_votes_than_the_top_class(rows):
    votes, said = rows
    found = agreement_with_votes(votes, said, [str(n % 3) for n in range(len(votes))])
    assert found["votes_won"] <= found["most_votes"] + 1e-12
    for name, (low, high) in found["intervals"].items():
        assert low - 1e-9 <= high, name

"""Softmax in numpy is softmax."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from mer.metrics.probabilities import softmax

SCORES = st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=6)


@given(SCORES)
def test_it_agrees_with_scipy_however_large_the_scores_are(scores):
    rows = np.array([scores, scores[::-1]])
    assert np.allclose(softmax(rows), special.softmax(rows, axis=-1))
    assert np.array_equal(softmax(rows)[0], softmax(rows[0]))

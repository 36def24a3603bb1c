"""Calibration: errors worked out by hand, temperatures that were known before."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from mer.metrics.calibration import BINS, COLDEST, HOTTEST, calibration, fit_temperature, tempered


def softmax(logits):
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def drawn(n, *, seed=0, classes=5):
    """Probabilities, and labels drawn from just these: perfectly calibrated."""
    rng = np.random.default_rng(seed)
    rows = softmax(2 * rng.standard_normal((n, classes)))
    truth = np.array([rng.choice(classes, p=row) for row in rows])
    return truth, rows


rows_of = arrays(float, st.tuples(st.integers(1, 20), st.integers(2, 6)), elements=st.floats(-20, 20)).map(
    softmax
)


def test_the_error_is_the_mean_gap_between_confidence_and_accuracy():
    rows = np.array([[0.95, 0.05], [0.95, 0.05], [0.65, 0.35], [0.35, 0.65]])
    found = calibration(np.array([0, 1, 0, 1]), rows)
    sure, unsure = found["bins"][1], found["bins"][0]
    assert (sure["count"], sure["accuracy"], sure["low"]) == (2, 0.5, 0.9)
    assert (unsure["count"], unsure["accuracy"], unsure["high"]) == (2, 1.0, 0.7)
    assert found["error"] == pytest.approx(0.5 * (0.95 - 0.5) + 0.5 * (1 - 0.65))


def test_labels_drawn_from_the_probabilities_show_no_error():
    assert calibration(*drawn(20_000))["error"] < 0.02


def test_boasting_shows():
    truth, rows = drawn(5000)
    assert calibration(truth, tempered(rows, 0.3))["error"] > 0.15


@pytest.mark.parametrize("factor", [0.4, 1.0, 2.5])
def test_the_temperature_that_undoes_a_known_distortion_is_found(factor):
    truth, rows = drawn(5000)
    distorted = tempered(rows, 1 / factor)
    assert fit_temperature(truth, lambda t: tempered(distorted, t)) == pytest.approx(factor, rel=0.06)


def test_a_fitted_temperature_mends_the_error():
    truth, rows = drawn(5000)
    boasting = tempered(rows, 0.3)
    found = fit_temperature(truth, lambda t: tempered(boasting, t))
    assert calibration(truth, tempered(boasting, found))["error"] < 0.03


def test_where_all_answers_are_right_the_temperature_stays_within_bounds():
    rows = np.full((4, 2), [0.9, 0.1])
    found = fit_temperature(np.zeros(4, int), lambda t: tempered(rows, t))
    assert COLDEST <= found <= HOTTEST


@given(rows_of, st.floats(COLDEST, HOTTEST))
def test_tempered_rows_are_distributions_in_the_same_order(rows, temperature):
    found = tempered(rows, temperature)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    first = rows.argmax(axis=1)
    np.testing.assert_allclose(found[np.arange(len(rows)), first], found.max(axis=1))


@given(rows_of)
def test_a_temperature_of_one_changes_nothing(rows):
    assert tempered(rows, 1) is rows


@given(rows_of, st.integers(0, 1))
def test_every_clip_is_in_one_bin_and_the_error_is_a_share(rows, label):
    found = calibration(np.full(len(rows), label), rows)
    assert sum(row["count"] for row in found["bins"]) == len(rows)
    assert 0 <= found["error"] <= 1
    assert all(row["low"] - 1e-9 <= row["confidence"] <= row["high"] + 1e-9 for row in found["bins"])


@st.composite
def labelled(draw):
    """Probabilities and a true label of each, any at all."""
    rows = draw(rows_of)
    return np.random.default_rng(draw(st.integers(0, 99))).integers(0, rows.shape[1], len(rows)), rows


@given(labelled())
def test_the_bins_are_those_of_scikit_learn(case):
    truth, rows = case
    confidence = rows.max(axis=1)
    assume(
        (np.abs(confidence * BINS - np.round(confidence * BINS)) > 1e-9).all()
    )  # on an edge theirs go below
    right, said = calibration_curve(rows.argmax(axis=1) == truth, confidence, n_bins=BINS, pos_label=True)
    bins = calibration(truth, rows)["bins"]
    assert [row["accuracy"] for row in bins] == pytest.approx(list(right))
    assert [row["confidence"] for row in bins] == pytest.approx(list(said))


@given(labelled())
def test_the_error_is_at_least_the_gap_of_all_clips_together(case):
    """By the triangle inequality; and it is that gap where all clips are in one bin."""
    truth, rows = case
    found = calibration(truth, rows)
    gap = abs(rows.max(axis=1).mean() - (rows.argmax(axis=1) == truth).mean())
    assert found["error"] >= gap - 1e-9
    if len(found["bins"]) == 1:
        assert found["error"] == pytest.approx(gap)


@given(labelled())
def test_no_temperature_has_less_of_scikit_learn_s_log_loss_than_the_fitted_one(case):
    truth, rows = case
    found = fit_temperature(truth, lambda t: tempered(rows, t))
    others = np.clip([*np.geomspace(COLDEST, HOTTEST, 9), found / 1.1, found * 1.1], COLDEST, HOTTEST)
    least, *losses = (
        log_loss(truth, tempered(rows, float(t)), labels=range(rows.shape[1])) for t in (found, *others)
    )
    assert least <= min(losses) + 1e-4


@given(arrays(float, (5, 4), elements=st.floats(-10, 10)), st.floats(COLDEST, HOTTEST))
def test_a_temperature_divides_the_logits(logits, temperature):
    expected = softmax(logits / temperature)
    assert tempered(softmax(logits), temperature) == pytest.approx(expected, abs=1e-9)

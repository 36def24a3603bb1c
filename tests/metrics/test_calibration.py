"""Calibration: errors worked out by hand, temperatures that were known before."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from mer.metrics.calibration import BINS, COLDEST, HOTTEST, SPREAD, calibration, fit_temperature, tempered


def softmax(logits):
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def drawn(n, *, seed=0, classes=5):
    """Probabilities, and labels drawn from just these: perfectly calibrated."""
    rng = np.random.default_rng(seed)
    rows = softmax(2 * rng.standard_normal((n, classes)))
    truth = np.array([rng.choice(classes, p=row) for row in rows])
    return truth, rows


def fitted(truth, rows, songs=None):
    """The temperature of rows of probabilities; every clip is a song unless they are named."""
    return fit_temperature(truth, songs or [str(n) for n in range(len(truth))], lambda t: tempered(rows, t))


def log_loss_of(rows, truth):
    return float(-np.log(rows[np.arange(len(truth)), truth]).mean())


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


def test_overconfidence_is_an_error():
    truth, rows = drawn(5000)
    assert calibration(truth, tempered(rows, 0.3))["error"] > 0.15


@pytest.mark.parametrize("factor", [0.4, 1.0, 2.5])
def test_the_temperature_that_undoes_a_known_distortion_is_found(factor):
    truth, rows = drawn(5000)
    distorted = tempered(rows, 1 / factor)
    assert fitted(truth, distorted) == pytest.approx(factor, rel=0.06)


def test_a_fitted_temperature_reduces_the_error():
    truth, rows = drawn(5000)
    boasting = tempered(rows, 0.3)
    found = fitted(truth, boasting)
    assert calibration(truth, tempered(boasting, found))["error"] < 0.03


# Few songs


def test_twenty_clips_of_five_songs_that_are_all_right_leave_probabilities_that_can_be_believed():
    """Unshrunk, the temperature of these was 0.05: probabilities of 0 and 1, and a log-loss of 3 for 0.5."""
    truth, rows = drawn(2000, classes=4)
    right = [rows[truth == rows.argmax(axis=1)][n] for n in range(5) for _ in range(4)]
    songs = [f"song {n}" for n in range(5) for _ in range(4)]
    found = fitted(np.argmax(right, axis=1), np.array(right), songs)
    assert 0.8 < found < 1
    assert log_loss_of(tempered(rows, found), truth) < log_loss_of(rows, truth) + 0.01
    assert tempered(rows, found).max() < 0.9999


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("songs", [1, 5, 50, 5000])
def test_songs_that_are_all_right_or_all_wrong_pull_the_temperature_their_way_within_bounds(right, songs):
    rows = np.full((songs, 2), [0.8, 0.2])
    found = fitted(np.full(songs, 0 if right else 1), rows)
    assert COLDEST <= found <= HOTTEST
    assert (found < 1) == right
    assert abs(np.log(found)) < 0.5 or songs > 5
    assert fitted(np.full(songs, 0 if right else 1), rows) == found, "the same clips, the same temperature"


def test_without_clips_the_temperature_is_one():
    assert fitted(np.zeros(0, int), np.zeros((0, 3))) == 1


@given(rows_of, st.integers(2, 5))
def test_more_clips_of_the_same_songs_are_no_more_evidence(rows, copies):
    truth, songs = np.zeros(len(rows), int), [str(n) for n in range(len(rows))]
    again = fitted(np.tile(truth, copies), np.tile(rows, (copies, 1)), songs * copies)
    assert again == pytest.approx(fitted(truth, rows, songs), rel=1e-3)


def test_a_song_of_many_clips_counts_like_one_of_a_single_clip():
    sure, unsure = [0.8, 0.2], [0.2, 0.8]  # of the first class, which is right
    rows, truth = np.array([sure] * 9 + [unsure]), np.zeros(10, int)
    assert fitted(truth, rows) < 1 < fitted(truth, rows, ["a"] * 9 + ["b"])


def test_a_song_whose_clips_have_different_labels_counts_once():
    rows = np.full((2, 2), [0.8, 0.2])
    both = fitted(np.array([0, 1]), rows, ["a", "a"])
    assert 1 < both < fitted(np.array([0, 1]), rows, ["a", "b"])


@given(rows_of, st.integers(0, 99))
def test_a_temperature_needs_as_much_evidence_as_it_departs_from_one(rows, seed):
    """At the best temperature prior and labels together lose no more than at 1, where the prior is silent."""
    truth = np.random.default_rng(seed).integers(0, rows.shape[1], len(rows))
    lost = log_loss_of(np.maximum(rows, 1e-12), truth) * len(rows)
    assert abs(np.log(fitted(truth, rows))) <= SPREAD * np.sqrt(2 * lost) + 1e-6


@settings(max_examples=15)
@given(
    classes=st.integers(2, 8),
    sharpness=st.floats(0.3, 8),
    songs=st.integers(1, 40),
    known=st.sampled_from([0.6, 1.0, 1.0, 1.6]),
    clips=st.integers(1, 4),
    seed=st.integers(0, 999),
)
@pytest.mark.promise(
    "A temperature fitted on any number of songs costs at most 0.01 nats a clip in expectation.",
    measured="[populations](#properties)",
)
def test_few_songs_cost_at_most_a_hundredth_of_a_nat_in_expectation(
    classes, sharpness, songs, known, clips, seed
):
    """Over 150 validation parts drawn from one population, whose expected log-loss is known exactly.

    `known` is the temperature that is right for it. A song's clips are as alike as can be.
    """
    rng = np.random.default_rng(seed)
    rows = softmax(sharpness * rng.standard_normal((1000, classes)))
    chances = tempered(rows, known)

    def expected(temperature):
        return -(chances * np.log(np.maximum(tempered(rows, temperature), 1e-12))).sum(axis=1).mean()

    changes = []
    for _ in range(150):
        chosen = rng.integers(0, len(rows), songs)
        truth = (rng.random((songs, 1)) > chances[chosen].cumsum(axis=1)[:, :-1]).sum(axis=1)
        names = [f"song {n}" for n in range(songs) for _ in range(clips)]
        found = fitted(np.repeat(truth, clips), np.repeat(rows[chosen], clips, axis=0), names)
        changes.append(expected(found) - expected(1.0))
    assert np.mean(changes) <= 0.01


# Properties


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
@settings(max_examples=25)  # each computes twelve of scikit-learn's losses
def test_no_temperature_has_less_of_scikit_learn_s_log_loss_and_the_prior_s_than_the_fitted_one(case):
    truth, rows = case
    found = fitted(truth, rows)
    others = np.clip([*np.geomspace(COLDEST, HOTTEST, 9), found / 1.1, found * 1.1], COLDEST, HOTTEST)
    least, *losses = (
        log_loss(truth, tempered(rows, float(t)), labels=range(rows.shape[1]))
        + (np.log(t) / SPREAD) ** 2 / 2 / len(truth)
        for t in (found, *others)
    )
    assert least <= min(losses) + 1e-4


@given(arrays(float, (5, 4), elements=st.floats(-10, 10)), st.floats(COLDEST, HOTTEST))
def test_a_temperature_divides_the_logits(logits, temperature):
    expected = softmax(logits / temperature)
    assert tempered(softmax(logits), temperature) == pytest.approx(expected, abs=1e-9)

"""Answers of several runs as one: the mean is the mean, the weights are the best, and alike is counted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mer.metrics.predictions import GAP, agreement, fit_weights, likelihoods, mean_rows, score_rows, stacked
from mer.utils.errors import RunError

NAMES = ("Happy", "Sad")
LABELS = ("Happy", "Sad", "Sad", "Happy")
FIRST, SECOND = (0.9, 0.2, 0.6, 0.8), (0.5, 0.4, 0.1, 0.2)  # of Happy


def rows(shares, labels=LABELS, order=None):
    """A clip each, of songs of two clips, with these probabilities of Happy."""
    found = [
        {
            "clip": f"{n}.wav",
            "song": f"song {n // 2}",
            "label": label,
            "predicted": NAMES[share < 0.5],
            "probabilities": {"Happy": share, "Sad": 1 - share},
            "windows": [1, 3],
        }
        for n, (share, label) in enumerate(zip(shares, labels, strict=True))
    ]
    return [found[n] for n in order or range(len(found))]


def happy(found):
    return [row["probabilities"]["Happy"] for row in found]


# --- the mean ---------------------------------------------------------------------------------------


def test_the_mean_of_equal_members_is_the_mean_of_their_probabilities():
    found = mean_rows([rows(FIRST), rows(SECOND)], [0.5, 0.5], NAMES)
    assert happy(found) == pytest.approx([0.7, 0.3, 0.35, 0.5])
    assert [row["predicted"] for row in found] == ["Happy", "Sad", "Sad", "Happy"]
    assert [row["label"] for row in found] == list(LABELS)


def test_weights_change_the_mean():
    found = mean_rows([rows(FIRST), rows(SECOND)], [0.75, 0.25], NAMES)
    assert happy(found) == pytest.approx([0.8, 0.25, 0.475, 0.65])


def test_clips_are_matched_in_any_order():
    straight = mean_rows([rows(FIRST), rows(SECOND)], [0.5, 0.5], NAMES)
    assert mean_rows([rows(FIRST), rows(SECOND, order=[2, 0, 3, 1])], [0.5, 0.5], NAMES) == straight


@given(st.lists(arrays(float, 4, elements=st.floats(0, 1)), min_size=2, max_size=5), st.data())
def test_the_mean_is_a_set_of_rows_and_lies_between_its_members(members, data):
    weights = np.array(data.draw(st.lists(st.floats(0.01, 1), min_size=len(members), max_size=len(members))))
    found = mean_rows([rows(shares.tolist()) for shares in members], weights / weights.sum(), NAMES)
    for row, own in zip(found, rows(members[0].tolist()), strict=True):
        assert [row[key] for key in ("clip", "song", "label")] == [
            own[key] for key in ("clip", "song", "label")
        ]
        assert sum(row["probabilities"].values()) == pytest.approx(1)
        assert row["probabilities"][row["predicted"]] == max(row["probabilities"].values())
    low, high = np.min(members, axis=0), np.max(members, axis=0)
    assert (low - 1e-9 <= happy(found)).all()
    assert (happy(found) <= high + 1e-9).all()


def test_members_that_answered_other_clips_cannot_be_averaged():
    with pytest.raises(RunError, match="1 of 4 clips were tested by one run"):
        stacked([rows(FIRST), rows(SECOND)[:3]], NAMES)
    with pytest.raises(RunError, match="1 of 4 clips have other labels"):
        stacked([rows(FIRST), rows(SECOND, labels=("Sad", *LABELS[1:]))], NAMES)
    with pytest.raises(RunError, match="does not know the class 'Party'"):
        stacked([rows(FIRST), rows(SECOND)], (*NAMES, "Party"))


def test_scores_are_of_songs_and_a_mean_counts_a_clip_as_one_window():
    scores = score_rows(mean_rows([rows(FIRST), rows(SECOND)], [0.5, 0.5], NAMES), NAMES)
    assert (scores["n_clips"], scores["n_songs"], scores["n_windows"]) == (4, 2, 4)
    assert scores["window_accuracy"] == scores["accuracy"] == 1
    assert score_rows(rows(FIRST), NAMES)["n_windows"] == 12


# --- the weights ------------------------------------------------------------------------------------


def each(shares):
    """Every clip is a song."""
    return [f"song {n}" for n in range(shares.shape[1])]


def objective(weights, shares):
    """Nats a song, labels and prior together."""
    with np.errstate(divide="ignore"):
        fits = np.log(weights @ np.maximum(shares, 1e-12)).sum() + np.log(weights).mean()
    return fits / (shares.shape[1] + 1)


@given(
    arrays(float, st.tuples(st.integers(1, 5), st.integers(1, 12)), elements=st.floats(0, 1)),
    st.randoms(use_true_random=False),
)
def test_weights_are_shares_and_no_others_are_more_probable(shares, random):
    weights = fit_weights(shares, each(shares))
    assert (weights > 0).all()
    assert weights.sum() == pytest.approx(1)
    others = [np.array([random.random() + 1e-3 for _ in weights]) for _ in range(20)]
    others += [np.ones(len(weights)), *(weights + 0.01 * np.eye(len(weights)))]
    best = max(objective(other / other.sum(), shares) for other in others)
    assert objective(weights, shares) >= best - 2 * GAP


@given(arrays(float, st.tuples(st.integers(2, 5), st.integers(1, 12)), elements=st.floats(0, 1)))
def test_no_weight_departs_further_from_the_prior_than_the_songs_are_worth(shares):
    """A member that knows nothing of n songs keeps its part of the prior's one song."""
    members, songs = shares.shape
    weights = fit_weights(shares, each(shares))
    assert weights.min() >= 1 / members / (songs + 1) - 1e-3
    assert weights.max() <= (songs + 1 / members) / (songs + 1) + 1e-3


@given(arrays(float, st.tuples(st.integers(2, 4), st.integers(1, 8)), elements=st.floats(0, 1)))
def test_more_clips_of_the_same_songs_change_no_weight(shares):
    again = fit_weights(np.tile(shares, 3), each(shares) * 3)
    assert again == pytest.approx(fit_weights(shares, each(shares)), abs=1e-6)


def test_few_songs_leave_weights_nearly_equal_and_many_decide():
    """Of two members one is right throughout. By hand: the other keeps half of one song in n + 1."""
    for songs in (1, 4, 1000):
        shares = np.array([[1e-12] * songs, [0.9] * songs])
        assert fit_weights(shares, each(shares))[0] == pytest.approx(0.5 / (songs + 1), rel=0.03)


def test_members_with_equal_predictions_have_equal_weights():
    same = np.tile(np.linspace(0.1, 0.9, 30), (3, 1))
    assert fit_weights(same, each(same)) == pytest.approx([1 / 3] * 3)


def test_members_that_know_different_songs_share_the_weight():
    shares = np.array([[0.9, 0.1], [0.1, 0.9]])
    assert fit_weights(shares, each(shares)) == pytest.approx([0.5, 0.5])
    shares = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    # by hand: the songs that each knows, and half of one
    assert fit_weights(shares, each(shares)) == pytest.approx([2.5 / 4, 1.5 / 4], abs=1e-3)
    assert fit_weights(shares, ["a", "a", "b"]) == pytest.approx([0.5, 0.5], abs=1e-3)


def test_likelihoods_are_those_of_the_true_labels():
    found = likelihoods([rows(FIRST), rows(SECOND)], NAMES)
    assert found == pytest.approx(np.array([[0.9, 0.8, 0.4, 0.8], [0.5, 0.6, 0.9, 0.2]]))


# --- how alike --------------------------------------------------------------------------------------


def test_agreement_is_the_share_of_clips_with_the_same_answer():
    found = agreement([rows(FIRST), rows(SECOND), rows(SECOND)], NAMES)
    assert found["agreement"] == [[1, 0.5, 0.5], [0.5, 1, 1], [0.5, 1, 1]]  # 0 and 1 alike, 2 and 3 not
    assert found["kappa"][1][2] == 1
    assert found["kappa"][0][1] == pytest.approx(0.2)  # by hand: 0.125 of 0.625 beyond chance


@given(st.lists(arrays(float, 4, elements=st.floats(0, 1)), min_size=2, max_size=4))
def test_agreement_is_mutual_and_complete_with_oneself(members):
    found = agreement([rows(shares.tolist()) for shares in members], NAMES)
    for table in found.values():
        assert np.allclose(table, np.transpose(table))
    assert np.diag(found["agreement"]).tolist() == [1] * len(members)
    assert (np.array(found["kappa"]) <= np.array(found["agreement"]) + 1e-9).all()

"""Scores: against scikit-learn and SciPy, and against answers known beforehand."""

import json
import warnings
from math import fsum
from unittest import mock

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier

from mer.metrics import scores as metrics
from mer.metrics.scores import (
    accuracy,
    bootstrap_interval,
    cohen_kappa,
    confusion_matrix,
    evaluate,
    macro_f1,
    majority_accuracy,
    per_class,
    pool_by,
    wilson_interval,
)
from tests.golden.regenerate import METRICS, SCORED, scores

CLASSES = 4
NAMES = ("a", "b", "c", "d")


@st.composite
def answers(draw):
    """Truth and prediction of some clips; often without some of the classes."""
    pairs = st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1))
    truth, predicted = zip(*draw(st.lists(pairs, min_size=1, max_size=60)), strict=True)
    return np.array(truth), np.array(predicted)


@st.composite
def judged(draw):
    """Truth (n,), probabilities (n, classes) and songs; with ties, and often without some of the classes."""
    truth, predicted = draw(answers())
    doubt = draw(st.sampled_from([0.0, 0.3, 0.5, 1.0]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    other = rng.dirichlet(np.ones(CLASSES), len(truth)) if draw(st.booleans()) else certain(predicted[::-1])
    songs = draw(st.lists(st.sampled_from("vwxyz"), min_size=len(truth), max_size=len(truth)))
    return truth, (1 - doubt) * certain(predicted) + doubt * other, songs


def quick(truth, rows, songs, classes=NAMES):
    """The evaluation with few resamples: two thousand for each example would take minutes."""
    with mock.patch.object(metrics, "RESAMPLES", 5):
        return evaluate(truth, rows, groups=songs, classes=classes)


def without_intervals(scores):
    return {name: value for name, value in scores.items() if name != "intervals"}


def certain(predicted, classes=CLASSES):
    """Probabilities of one who is sure."""
    return np.eye(classes)[predicted]


def width(interval):
    return interval[1] - interval[0]


@given(answers())
def test_accuracy_is_that_of_scikit_learn(pair):
    assert accuracy(*pair) == pytest.approx(sklearn.metrics.accuracy_score(*pair))


@given(answers())
def test_the_confusion_matrix_is_that_of_scikit_learn(pair):
    theirs = sklearn.metrics.confusion_matrix(*pair, labels=range(CLASSES))
    assert (confusion_matrix(*pair, CLASSES) == theirs).all()


@given(answers())
def test_kappa_is_that_of_scikit_learn(pair):
    ours = cohen_kappa(confusion_matrix(*pair, CLASSES))
    if len({*pair[0], *pair[1]}) == 1:  # theirs is not defined then, and warns
        assert ours == 0
    else:
        assert ours == pytest.approx(sklearn.metrics.cohen_kappa_score(*pair, labels=range(CLASSES)))


@given(answers())
def test_precision_recall_and_f1_are_those_of_scikit_learn(pair):
    theirs = sklearn.metrics.precision_recall_fscore_support(*pair, labels=range(CLASSES), zero_division=0)
    ours = per_class(confusion_matrix(*pair, CLASSES))
    for name, values in zip(("precision", "recall", "f1"), theirs, strict=False):
        assert ours[name] == pytest.approx(values)


@given(answers())
def test_macro_f1_is_that_of_scikit_learn(pair):
    theirs = sklearn.metrics.f1_score(*pair, average="macro", zero_division=0)
    assert macro_f1(*pair, CLASSES) == pytest.approx(theirs)


@given(answers())
def test_the_majority_scores_the_share_of_the_most_frequent_class(pair):
    truth, _ = pair
    assert majority_accuracy(truth) == max(np.mean(truth == k) for k in range(CLASSES))


@given(judged())
@pytest.mark.promise(
    "Scores equal those of scikit-learn.", measured="with ties, missing classes, a single class"
)
def test_all_scores_of_an_evaluation_are_those_of_scikit_learn(case):
    """By clip and by song, from probabilities with ties, with classes that are missing, with one alone."""
    truth, rows, songs = case
    found, predicted = quick(truth, rows, songs), rows.argmax(axis=1)
    theirs = sklearn.metrics.precision_recall_fscore_support(
        truth, predicted, labels=range(CLASSES), zero_division=0
    )
    for name, values in zip(("precision", "recall", "f1", "support"), theirs, strict=True):
        assert [found["per_class"][label][name] for label in NAMES] == pytest.approx(list(values))
    wanted = {
        "accuracy": sklearn.metrics.accuracy_score(truth, predicted),
        "macro_f1": sklearn.metrics.f1_score(truth, predicted, average="macro", zero_division=0),
        "majority": DummyClassifier().fit(rows, truth).score(rows, truth),
    }
    assert {name: found[name] for name in wanted} == pytest.approx(wanted)
    theirs = sklearn.metrics.confusion_matrix(truth, predicted, labels=range(CLASSES))
    assert found["confusion"] == theirs.tolist()
    order = sorted(set(songs))
    means = [[fsum(column) / len(column) for column in rows[[s == name for s in songs]].T] for name in order]
    pooled = np.argmax(means, axis=1)
    labels = [np.bincount(truth[[song == name for song in songs]]).argmax() for name in order]
    assert found["song_accuracy"] == sklearn.metrics.accuracy_score(labels, pooled)
    assert (found["n_clips"], found["n_songs"]) == (len(truth), len(order))


@given(answers())
def test_mean_recall_of_the_classes_there_are_is_scikit_learn_s_balanced_accuracy(pair):
    truth, predicted = pair
    recall = per_class(confusion_matrix(truth, predicted, CLASSES))["recall"][np.unique(truth)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that are predicted and never true
        assert recall.mean() == pytest.approx(sklearn.metrics.balanced_accuracy_score(truth, predicted))


@given(judged(), st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_clips_in_another_order_score_the_same(case, random):
    truth, rows, songs = case
    order = np.array(random.sample(range(len(truth)), len(truth)))
    again = quick(truth[order], rows[order], [songs[clip] for clip in order])
    assert flat(without_intervals(again)) == pytest.approx(flat(without_intervals(quick(*case))))


@given(judged(), st.permutations(range(CLASSES)))
@settings(max_examples=25)
def test_classes_in_another_order_score_the_same_in_that_order(case, order):
    """Where nothing is tied: of equals the first class wins."""
    truth, rows, songs = case
    rows = rows + np.random.default_rng(0).uniform(0, 1e-6, rows.shape)
    rows /= rows.sum(axis=1, keepdims=True)
    songs = [str(clip) for clip in range(len(songs))]  # labels of a song may be tied
    found = quick(truth, rows, songs)
    turned = quick(np.argsort(order)[truth], rows[:, order], songs, [NAMES[k] for k in order])
    assert turned["confusion"] == np.array(found["confusion"])[np.ix_(order, order)].tolist()
    assert turned["per_class"] == found["per_class"]
    assert turned["calibration"] == found["calibration"]
    for name in ("accuracy", "macro_f1", "kappa", "song_accuracy", "majority"):
        assert turned[name] == pytest.approx(found[name])


@given(judged())
@settings(max_examples=25)
def test_clips_twice_over_score_the_same(case):
    truth, rows, songs = case
    twice = quick(np.tile(truth, 2), np.tile(rows, (2, 1)), songs * 2)
    found = quick(*case)
    for name in ("accuracy", "window_accuracy", "macro_f1", "kappa", "song_accuracy", "majority"):
        assert twice[name] == pytest.approx(found[name])
    assert twice["calibration"]["error"] == pytest.approx(found["calibration"]["error"])


@given(judged())
def test_every_interval_of_an_evaluation_is_in_order_and_in_range(case):
    for low, high in quick(*case)["intervals"].values():
        assert 0 <= low <= high <= 1


def test_rows_of_the_confusion_matrix_are_true_and_columns_predicted():
    matrix = confusion_matrix(np.array([0, 0, 1]), np.array([1, 1, 1]), 2)
    assert matrix.tolist() == [[0, 2], [0, 1]]
    assert matrix.dtype == np.int64


# --- songs ------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.integers(0, 2), st.integers(0, 2)), min_size=1))
def test_pooling_averages_within_each_song_and_takes_the_most_frequent_label(rows):
    songs, truth, predicted = (list(column) for column in zip(*rows, strict=True))
    probabilities = 0.7 * certain(predicted, 3) + 0.1
    pooled_truth, pooled, names = pool_by(songs, np.array(truth), probabilities)
    assert names == sorted(set(songs))
    for name, label, row in zip(names, pooled_truth, pooled, strict=True):
        own = [k for k, song in enumerate(songs) if song == name]
        assert row == pytest.approx(np.mean(probabilities[own], axis=0))
        labels = [truth[k] for k in own]
        assert labels.count(label) == max(labels.count(k) for k in range(3))


def test_a_tie_within_a_song_is_decided_alike_whatever_the_order_of_its_clips():
    """0.1 + 0.2 + 0.3 is more than 0.3 + 0.2 + 0.1, where numbers are rounded after each step."""
    rows = np.array([[a, 0.4 - a, 0.3, 0.3] for a in (0.1, 0.2, 0.3)])
    rows[:, 1] = rows[::-1, 0]
    _, found, _ = pool_by(list("sss"), np.zeros(3, int), rows)
    _, turned, _ = pool_by(list("sss"), np.zeros(3, int), rows[::-1])
    assert found[0, 0] == found[0, 1]
    assert found.tolist() == turned.tolist()


def test_a_song_is_right_where_its_clips_are_right_on_average():
    truth = np.array([0, 0, 0, 1])
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.4, 0.6], [0.6, 0.4]])
    result = evaluate(truth, probabilities, groups=["s", "s", "s", "t"], classes=("a", "b"))
    assert result["accuracy"] == 0.25
    assert result["song_accuracy"] == 0.5
    assert (result["n_clips"], result["n_songs"]) == (4, 2)


# --- intervals --------------------------------------------------------------------------------------


def test_intervals_by_song_are_wider_than_by_clip_where_songs_are_copies():
    right = np.repeat(np.arange(20) % 3 > 0, 10).astype(float)
    songs = [str(k // 10) for k in range(200)]
    clips = [str(k) for k in range(200)]

    def score(chosen):
        return right[chosen].mean()

    by_song, by_clip = bootstrap_interval(score, songs), bootstrap_interval(score, clips)
    assert width(by_song) == pytest.approx(np.sqrt(10) * width(by_clip), rel=0.15)
    one_each = bootstrap_interval(lambda chosen: right[::10][chosen].mean(), [str(k) for k in range(20)])
    assert width(by_song) == pytest.approx(width(one_each), rel=0.1)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_the_interval_of_independent_clips_is_the_binomial_one(share):
    right = (np.arange(400) < share * 400).astype(float)
    low, high = bootstrap_interval(lambda chosen: right[chosen].mean(), [str(k) for k in range(400)])
    spread = 1.96 * np.sqrt(share * (1 - share) / 400)
    assert (low, high) == pytest.approx((share - spread, share + spread), abs=0.01)


def test_whole_songs_are_drawn_and_as_many_as_there_are():
    songs, drawn = ["x", "y", "x", "z", "z", "z"], []

    def score(chosen):
        drawn.append(sorted(chosen.tolist()))
        return 0.5

    bootstrap_interval(score, songs, resamples=200)
    members = {"x": [0, 2], "y": [1], "z": [3, 4, 5]}
    wanted = {
        tuple(sorted(members[a] + members[b] + members[c])) for a in members for b in members for c in members
    }
    assert {tuple(draw) for draw in drawn} == wanted


def test_the_interval_is_the_same_each_time_and_follows_its_seed():
    right = np.arange(30) % 2

    def interval(seed):
        return bootstrap_interval(
            lambda i: right[i].mean(), [str(k) for k in range(30)], seed=seed, resamples=99
        )

    assert interval(0) == interval(0) != interval(1)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_scores_that_are_always_0_or_1_get_wilsons_interval_by_songs(share):
    songs = [str(k // 4) for k in range(40)]
    low, high = bootstrap_interval(lambda chosen: share, songs, resamples=50)
    theirs = scipy.stats.binomtest(int(10 * share), 10).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=1e-6)
    assert width((low, high)) > 0.2


@given(st.integers(1, 300), st.floats(0, 1))
def test_wilsons_interval_is_that_of_scipy(trials, share):
    hits = round(share * trials)
    theirs = scipy.stats.binomtest(hits, trials).proportion_ci(method="wilson")
    assert wilson_interval(hits / trials, trials) == pytest.approx((theirs.low, theirs.high), abs=1e-6)


@pytest.mark.parametrize("trials", [1, 7, 1000])
def test_wilsons_interval_of_none_and_all_stays_in_range_and_touches_its_end(trials):
    low, high = wilson_interval(0, trials)
    assert low == pytest.approx(0, abs=1e-12)
    assert 0 < high < 1
    assert wilson_interval(1, trials) == pytest.approx((1 - high, 1 - low))
    assert wilson_interval(1, trials)[1] <= 1


# --- all together -----------------------------------------------------------------------------------


def test_all_scores_are_plain_data_and_say_what_they_are_of():
    truth = np.array([0, 0, 1, 2])
    result = evaluate(truth, certain([0, 1, 1, 2]), groups=list("wxyz"), classes=NAMES)
    assert json.loads(json.dumps(result)) == result
    assert result["accuracy"] == 0.75
    assert result["majority"] == 0.5
    assert result["chance"] == 0.25
    assert result["confusion"] == [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert result["classes"] == list(NAMES)
    assert list(result["per_class"]) == list(NAMES)
    assert result["per_class"]["a"] == pytest.approx(
        {"precision": 1, "recall": 0.5, "f1": 2 / 3, "support": 2}
    )
    assert result["per_class"]["d"] == {"precision": 0, "recall": 0, "f1": 0, "support": 0}
    assert result["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)


def test_the_intervals_of_an_evaluation_are_those_of_the_bootstrap_and_by_song_the_exact_one():
    rng = np.random.default_rng(5)
    truth, outside = rng.integers(0, CLASSES, 60), rng.random(60) < 0.1
    rows, songs = rng.dirichlet(np.ones(CLASSES), 60), [str(k) for k in rng.integers(0, 25, 60)]
    windows = np.stack([rng.integers(0, 4, 60), np.full(60, 3)], axis=1)
    found = evaluate(truth, rows, groups=songs, classes=NAMES, windows=windows, outside=outside)["intervals"]
    answers = metrics.with_outside(rows, outside)
    own, pooled, names = pool_by(songs, truth, answers)
    predicted, right = answers.argmax(axis=1), own == pooled.argmax(axis=1)
    scores = {
        "accuracy": lambda i: accuracy(truth[i], predicted[i]),
        "window_accuracy": lambda i: windows[i, 0].sum() / windows[i, 1].sum(),
        "macro_f1": lambda i: macro_f1(truth[i], predicted[i], CLASSES),
    }
    wanted = {name: bootstrap_interval(score, songs) for name, score in scores.items()}
    exact = scipy.stats.binomtest(int(right.sum()), len(names)).proportion_ci()
    wanted["song_accuracy"] = (exact.low, exact.high)
    assert found == {name: pytest.approx(interval, abs=1e-12) for name, interval in wanted.items()}


@given(answers())
@settings(max_examples=20)  # each draws 200 resamples
def test_every_score_lies_within_its_interval_and_0_to_1(pair):
    truth, predicted = pair
    songs = [str(k // 2) for k in range(len(truth))]
    # The other scores go the same way; 2000 draws of each for each example would take minutes.
    low, high = bootstrap_interval(lambda i: accuracy(truth[i], predicted[i]), songs, resamples=200)
    assert 0 <= low <= high <= 1
    assert low - 1e-9 <= accuracy(truth, predicted) <= high + 1e-9


@pytest.mark.parametrize("case", SCORED)
def test_scores_are_the_golden_ones(case):
    golden = json.loads(METRICS.read_text())[case]
    result = scores(case)
    assert flat(result).keys() == flat(golden).keys()
    for key, value in flat(result).items():
        wanted = flat(golden)[key]
        assert value == (pytest.approx(wanted, abs=1e-12) if isinstance(wanted, float) else wanted), key


def flat(data, prefix=""):
    """{"a": [1, {"b": 2}]} -> {"/a/0": 1, "/a/1/b": 2}."""
    if not isinstance(data, (dict, list)):
        return {prefix: data}
    pairs = data.items() if isinstance(data, dict) else enumerate(data)
    return {key: value for name, part in pairs for key, value in flat(part, f"{prefix}/{name}").items()}


def test_every_golden_score_belongs_to_a_case():
    assert json.loads(METRICS.read_text()).keys() == SCORED.keys()


@pytest.mark.parametrize(
    ("truth", "probabilities", "groups", "message"),
    [
        ([], np.zeros((0, 4)), [], r"nothing to evaluate: 0 clips"),
        ([0, 1], certain([0]), ["x", "y"], r"2 labels do not match probabilities of shape \(1, 4\)"),
        ([0], np.array([1.0]), ["x"], r"1 labels do not match probabilities of shape \(1,\)"),
        ([0, 4], certain([0, 1]), ["x", "y"], "label 4 is outside the 4 classes"),
        ([0, -1], certain([0, 1]), ["x", "y"], "label -1 is outside the 4 classes"),
        ([0], np.array([[0.5, 0.2, 0, 0]]), ["x"], "negative or do not sum to 1"),
        ([0], np.array([[1.5, -0.5, 0, 0]]), ["x"], "negative or do not sum to 1"),
        ([0], np.array([[np.nan, 0.5, 0.5, 0]]), ["x"], "negative or do not sum to 1"),
        ([0], certain([0], 5), ["x"], "5 columns of probabilities do not match 4 classes"),
        ([0], certain([0], 3), ["x"], "3 columns of probabilities do not match 4 classes"),
        ([0], certain([0]), ["x", "y"], "2 groups do not match 1 labels"),
    ],
)
def test_input_that_does_not_fit_together_is_refused(truth, probabilities, groups, message):
    with pytest.raises(ValueError, match=message):
        evaluate(np.array(truth, dtype=int), probabilities, groups=groups, classes=NAMES)

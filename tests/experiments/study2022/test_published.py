"""The study of 2022 as data agrees with itself and with what was published."""

import pytest

from mer.experiments.study2022.published import CLASSES, DEVIATIONS, RESULTS, SOURCE, TEST_CLIPS, majority
from mer.metrics.verdict import exact_share
from mer.models.zoo import ZOO

SUPPORT = [27, 16, 16, 15, 24]
ACCURACY = {
    "mobilenet_v3_small": 0.3878,
    "alexnet": 0.3673,
    "efficientnet_b0": 0.2755,
    "vgg16": 0.2551,
    "densenet121": 0.2245,
    "resnet18": 0.1429,
}


def by_name(result):
    return result.name


@pytest.mark.parametrize("result", RESULTS, ids=by_name)
def test_every_network_was_tested_on_the_same_98_clips(result):
    assert [sum(row) for row in result.confusion] == SUPPORT
    assert sum(SUPPORT) == TEST_CLIPS


@pytest.mark.parametrize("result", RESULTS, ids=by_name)
def test_a_matrix_has_a_row_a_class_and_rows_of_one_length(result):
    assert len(result.confusion) == len(CLASSES)
    assert len({len(row) for row in result.confusion}) == 1
    assert 5 <= len(result.confusion[0]) <= 8


def test_accuracies_are_those_published_best_first():
    assert [result.name for result in RESULTS] == list(ACCURACY)
    assert [result.accuracy for result in RESULTS] == pytest.approx(list(ACCURACY.values()), abs=5e-5)


@pytest.mark.parametrize("result", RESULTS, ids=by_name)
def test_the_interval_is_the_exact_one_over_98_clips(result):
    assert (result.accuracy, *result.interval) == exact_share(result.right, 98)
    assert result.above_majority == (result.interval[0] > majority())
    assert result.interval[0] < result.accuracy < result.interval[1]


def test_answers_outside_the_five_classes_are_counted():
    assert {result.name: result.outside for result in RESULTS if result.outside} == {
        "vgg16": 3,
        "efficientnet_b0": 3,
    }


def test_the_majority_class_would_beat_four_of_six_networks():
    assert majority() == pytest.approx(0.276, abs=5e-4)
    assert sum(result.accuracy <= majority() for result in RESULTS) == 4


def test_each_network_is_one_of_the_zoo():
    assert {result.name for result in RESULTS} <= set(ZOO)


def test_deviations_name_a_topic_once_and_both_sides():
    assert len({topic for topic, _, _ in DEVIATIONS}) == len(DEVIATIONS)
    assert all(side.strip() for row in DEVIATIONS for side in row)


def test_the_source_names_report_and_notebook():
    assert "Table 1" in SOURCE
    assert "kwanit1142/Hindi-Music-Based-Induced-Emotion-Classification" in SOURCE

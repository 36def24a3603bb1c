"""A score is written with its interval, in the same words everywhere."""

import pytest

from mer.metrics.score import Score


def test_a_score_is_written_in_whole_percent_with_its_interval():
    assert str(Score(0.456, 0.361, 0.559)) == "46% (36 to 56)"


def test_a_difference_is_written_in_points_with_signs():
    assert Score(0.05, -0.031, 0.12).points == "+5 points (-3 to +12)"


def test_a_score_is_read_from_metrics_of_a_run():
    metrics = {"svm_accuracy": 0.5, "svm_accuracy_low": 0.4, "svm_accuracy_high": 0.6}
    assert Score.from_metrics(metrics, "svm_accuracy") == (0.5, 0.4, 0.6)


def test_a_score_is_read_from_scores_of_an_evaluation():
    scores = {"song_accuracy": 0.5, "intervals": {"song_accuracy": [0.4, 0.6]}}
    assert Score.from_scores(scores) == (0.5, 0.4, 0.6)


def test_a_run_without_the_metric_is_refused():
    with pytest.raises(KeyError, match="test_song_accuracy"):
        Score.from_metrics({})

"""The leak of a split is measured by clip, with an interval over songs."""

from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer.experiments.leaks import Leak, leak_of, pairs
from mer.experiments.prepared import Spec
from mer.metrics.score import Score
from mer.metrics.scores import bootstrap_interval
from mer.runs.run import Run
from tests.run_helpers import tiny_config


def rows(right, sure=0.8):
    """A row for each (song, whether it was answered rightly)."""
    return [
        {
            "clip": f"{song}/{number}",
            "song": song,
            "label": "A",
            "predicted": "A" if hit else "B",
            "probabilities": {"A": 0.5 + sure * (hit - 0.5), "B": 0.5 - sure * (hit - 0.5)},
        }
        for number, (song, hit) in enumerate(right)
    ]


def test_the_difference_is_that_of_the_shares_of_right_clips():
    kept = rows([("a", True), ("a", False), ("b", False), ("b", False)])
    parted = rows([("a", True), ("b", True), ("c", False)])
    found = leak_of(kept, parted)
    assert (found.kept[0], found.parted[0]) == pytest.approx((1 / 4, 2 / 3))
    assert found.difference[0] == pytest.approx(2 / 3 - 1 / 4)


def test_a_large_leak_over_many_songs_is_significant():
    kept = rows([(f"song {n // 3}", n // 3 % 3 == 0) for n in range(300)])
    parted = rows([(f"song {n // 3}", n // 3 % 3 > 0) for n in range(300)])
    assert leak_of(kept, parted).difference[1] > 0.1
    assert leak_of(parted, kept).difference[2] < -0.1


def test_if_every_answer_is_right_the_interval_includes_both_signs():
    found = leak_of(rows([("a", True), ("b", True)]), rows([("a", True), ("c", True)]))
    value, low, high = found.difference
    assert value == 0
    assert -1 < low == -high < 0


def test_clips_without_a_song_count_as_songs():
    alone = [row | {"song": None} for row in rows([("a", n % 2 == 0) for n in range(40)])]
    together = rows([("a", n % 2 == 0) for n in range(40)])
    widths = [found.kept[2] - found.kept[1] for found in (leak_of(alone, alone), leak_of(together, together))]
    assert widths[0] > 0.2
    assert widths[1] == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=12))
def test_a_run_has_no_leak_against_itself(right):
    with pytest.MonkeyPatch.context() as patch:  # few resamples, since there are many examples
        few = partial(bootstrap_interval, resamples=100)
        patch.setattr("mer.experiments.leaks.bootstrap_interval", few)
        found, other = (leak_of(rows(right), rows(right, sure=sure)) for sure in (0.8, 0.7))
    value, low, high = found.difference
    assert value == 0
    assert low <= 0 <= high
    assert found.to_dict()["kept"] == found.to_dict()["parted"]
    assert "Both runs are the same" in found.meaning
    assert "No leak can be seen with so few songs" in other.meaning


@pytest.mark.parametrize(
    ("low", "high", "meaning"),
    [
        (0.1, 0.3, "raise the score"),
        (-0.3, -0.1, "unexpected"),
        (-0.1, 0.1, "No leak can be seen with so few songs"),
    ],
)
def test_what_an_interval_means_depends_on_where_zero_lies(low, high, meaning):
    score = (0.5, 0.4, 0.6)
    assert meaning in Leak(score, score, Score((low + high) / 2, low, high)).meaning


def finished(name, *, started=0.0, **changes):
    """A finished run whose command tells what was changed, as commands do."""
    spec = Spec("songs", tiny_config(**changes), command=f"mer train {changes}").to_dict()
    return Run(name, name, "finished", started, started + 1, spec, {}, tags={"mer.data_hash": "abc"})


def test_runs_that_differ_only_in_grouping_by_song_are_a_pair():
    runs = [
        finished("parted", group_by_song=False),
        finished("kept"),
        finished("another network", backbone="alexnet", group_by_song=False),
        finished("another seed", seed=1),
    ]
    assert [(kept.id, parted.id) for kept, parted in pairs(runs)] == [("kept", "parted")]


def test_of_equal_runs_the_newest_is_compared():
    runs = [finished("old"), finished("new", started=5.0), finished("parted", group_by_song=False)]
    assert [kept.id for kept, _ in pairs(runs)] == ["new"]


def test_unfinished_runs_and_folds_have_no_pair():
    kept, parted = finished("kept"), finished("parted", group_by_song=False)
    for change in (
        {"status": "failed"}, {"parent": "whole"}, {"tags": {"mer.data_hash": "abc", "mer.members": "a,b"}},
        {"tags": {"mer.data_hash": "other clips"}}, {"spec": {}},
    ):  # fmt: skip
        assert pairs([kept, replace(parted, **change)]) == []

"""The leak of a split is measured by song."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer.experiments.leaks import leak_of, pairs
from mer.experiments.prepared import Spec
from mer.metrics.verdict import exact_share, paired, unpaired
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


def test_on_the_same_clips_songs_are_compared_in_pairs_by_all_their_clips():
    kept = rows([(f"song {n // 3}", n // 3 % 4 == 0) for n in range(60)])
    parted = rows([(f"song {n // 3}", n // 3 % 2 == 0) for n in range(60)])
    found = leak_of(kept, parted)
    assert (found.kept, found.parted) == (exact_share(5, 20), exact_share(10, 20))
    assert found.verdict == paired(0, 5, 20)


def test_on_other_clips_a_song_counts_by_one_of_its_clips():
    kept = rows([("a", True), ("a", True), ("b", False), ("b", False)])
    parted = rows([(name, True) for name in "acdefg"])[1:]
    found = leak_of(kept, parted)
    assert found.verdict == unpaired((1, 2), (5, 5))
    assert (found.kept, found.parted) == (exact_share(1, 2), exact_share(5, 5))


def test_a_large_leak_over_many_songs_is_told_and_so_is_its_opposite():
    kept = rows([(f"song {n // 3}", n // 3 % 3 == 0) for n in range(300)])
    parted = rows([(f"song {n // 3 + 50}", n // 3 % 3 > 0) for n in range(300)])
    assert leak_of(kept, parted).verdict.difference.low > 0.1
    assert "Songs on both sides raise the score" in leak_of(kept, parted).meaning
    assert "Songs on both sides lower the score, which is unexpected" in leak_of(parted, kept).meaning


def test_if_every_answer_is_right_the_interval_includes_both_signs():
    found = leak_of(rows([("a", True), ("b", True)]), rows([("a", True), ("c", True)]))
    value, low, high = found.verdict.difference
    assert value == 0
    assert -1 < low < 0
    assert high == pytest.approx(-low)


def test_clips_without_a_song_count_as_songs_and_the_doubt_is_said():
    kept, parted = rows([("a", True) for n in range(40)]), rows([("b", True) for n in range(40)])
    assert "at least 4 songs on each side needed" in leak_of(kept, parted[1:]).meaning
    alone = [row | {"song": None} for row in parted]
    assert leak_of(kept, alone[1:]).verdict == unpaired((1, 1), (39, 39))
    assert "each clip counts as one, so p is too small" in leak_of(kept, alone[1:]).meaning
    assert "each clip counts as one" not in leak_of(kept, parted[1:]).meaning


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=12))
def test_a_run_has_no_leak_against_itself(right):
    found, other = (leak_of(rows(right), rows(right, sure=sure)) for sure in (0.8, 0.7))
    assert found.verdict.difference.value == 0
    assert not found.verdict.told
    data = found.to_dict()
    assert data["kept"] == data["parted"]
    assert (data["difference"], data["p"]) == (found.verdict.difference, 1)
    assert "Both runs are the same" in found.meaning
    assert "No leak can be told from chance" in other.meaning


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

"""Two runs on the same clips: what is counted, what is refused, and what is said."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer.metrics.comparison import compare
from mer.metrics.scores import evaluate
from mer.metrics.verdict import paired
from mer.utils.errors import RunError

NAMES = ("Happy", "Party", "Sad")


def row(clip, label, said, *, song=None, share=0.8):
    """A prediction that is sure of `said` by `share`."""
    rest = (1 - share) / (len(NAMES) - 1)
    shares = {name: share if name == said else rest for name in NAMES}
    return {"clip": clip, "song": song, "label": label, "predicted": said, "probabilities": shares}


def run(right):
    """A clip per song; the n-th is right where the n-th of `right` is."""
    return [
        row(f"{n}.wav", "Sad", "Sad" if good else "Happy", song=f"song {n}") for n, good in enumerate(right)
    ]


def compared(first, second):
    return compare(run(first), run(second), classes=NAMES)


def split(both, first, second, neither):
    """Two runs that are right together, alone, and not at all, on so many songs."""
    one = [True] * (both + first) + [False] * (second + neither)
    other = [True] * both + [False] * first + [True] * second + [False] * neither
    return compared(one, other)


# Two songs of two clips, and a clip that is its own song.
FIRST = [
    row("a1", "Sad", "Sad", song="a", share=0.9),
    row("a2", "Sad", "Happy", song="a", share=0.6),
    row("b1", "Happy", "Happy", song="b"),
    row("b2", "Happy", "Happy", song="b"),
    row("c", "Party", "Sad"),
]
SECOND = [
    row("c", "Party", "Party"),
    row("b2", "Happy", "Happy", song="b"),
    row("b1", "Happy", "Sad", song="b", share=0.9),
    row("a2", "Sad", "Sad", song="a"),
    row("a1", "Sad", "Sad", song="a"),
]


def test_songs_are_counted_by_the_mean_of_their_clips_and_a_clip_without_one_is_its_own():
    found = compare(FIRST, SECOND, classes=NAMES)
    assert (found.n_clips, found.n_songs) == (5, 3)
    assert (found.first, found.second) == (2 / 3, 2 / 3)
    assert (found.only_first, found.only_second) == (1, 1)
    assert found.verdict == paired(1, 1, 3)


def test_recall_of_each_class_is_by_clip():
    assert compare(FIRST, SECOND, classes=NAMES).per_class == {
        "Happy": (1, 0.5),
        "Party": (0, 1),
        "Sad": (0.5, 1),
    }


def test_clips_come_in_the_order_of_the_first_run_with_both_answers():
    clips = compare(FIRST, SECOND, classes=NAMES).clips
    assert [clip["clip"] for clip in clips] == ["a1", "a2", "b1", "b2", "c"]
    outcomes = [clip["outcome"] for clip in clips]
    assert outcomes == ["both right", "only second", "only first", "both right", "only second"]
    assert clips[1] == {
        "clip": "a2",
        "song": "a",
        "label": "Sad",
        "first": "Happy",
        "second": "Sad",
        "first_probability": pytest.approx(0.2),
        "second_probability": 0.8,
        "outcome": "only second",
    }
    assert compared([False], [False]).clips[0]["outcome"] == "both wrong"


def test_accuracies_by_song_are_those_of_the_evaluation():
    found = compare(FIRST, SECOND, classes=NAMES)
    for rows, score in ((FIRST, found.first), (SECOND, found.second)):
        truth = np.array([NAMES.index(r["label"]) for r in rows])
        probabilities = np.array([list(r["probabilities"].values()) for r in rows])
        groups = [r["song"] or r["clip"] for r in rows]
        assert score == evaluate(truth, probabilities, groups=groups, classes=NAMES)["song_accuracy"]


def test_a_song_that_only_the_second_run_names_counts():
    unnamed = [r | {"song": None} for r in FIRST]
    found = compare(unnamed, SECOND, classes=NAMES)
    assert found.n_songs == 3
    assert found.clips[0]["song"] == "a"


def test_the_order_of_classes_does_not_matter_where_nothing_is_tied():
    turned = compare(FIRST, SECOND, classes=NAMES[::-1])
    assert list(turned.per_class) == list(NAMES[::-1])
    assert turned.per_class == compare(FIRST, SECOND, classes=NAMES).per_class


# --- what is counted --------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=12))
def test_the_verdict_is_that_of_the_songs_that_only_one_run_gets_right(pairs):
    first, second = zip(*pairs, strict=True)
    found = compared(first, second)
    alone = pairs.count((True, False)), pairs.count((False, True))
    assert (found.only_first, found.only_second) == alone
    assert found.verdict == paired(*alone, len(pairs))
    assert found.verdict.difference.value == pytest.approx(found.second - found.first)


# --- refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (FIRST, SECOND[1:], r"1 of 5 clips were tested by one run; train both with the same data, seed"),
        (FIRST[:2], SECOND[:2], "4 of 4 clips were tested by one run"),
        (FIRST, [r | {"label": "Sad"} for r in SECOND], "3 of 5 clips have other labels in the second run"),
        ([], SECOND, "no predictions of the first run; train both"),
        (FIRST, [], "no predictions of the second run; train both"),
    ],
)
def test_runs_on_different_clips_are_refused(first, second, message):
    with pytest.raises(RunError, match=message):
        compare(first, second, classes=NAMES)


@pytest.mark.parametrize(
    ("classes", "strange"), [(NAMES[1:], "Happy"), ((*NAMES, "Devotional"), "Devotional")]
)
def test_runs_with_other_classes_are_refused(classes, strange):
    with pytest.raises(RunError, match=f"does not know the class '{strange}'"):
        compare(FIRST, SECOND, classes=classes)


# --- words ------------------------------------------------------------------------------------------


def test_the_verdict_on_a_small_gap_is_that_it_happens_by_chance():
    assert split(30, 7, 5, 18).sentence("A", "B") == (
        "The two cannot be told apart on these 60 songs: A is right on 7 that B misses, "
        "B on 5 that A misses; such a difference can be chance (p = 0.77)."
    )


def test_the_verdict_on_a_small_gap_keeps_the_order_of_the_runs():
    assert "A is right on 5 that B misses, B on 7 that A misses" in split(30, 5, 7, 18).sentence("A", "B")


def test_the_verdict_on_a_large_gap_names_the_better_one_first():
    wanted = (
        "B is better on these 60 songs: B is right on 15 that A misses, "
        "A on 2 that B misses; such a difference is rarely chance (p = 0.0023)."
    )
    assert split(30, 2, 15, 13).sentence("A", "B") == wanted
    assert split(30, 15, 2, 13).sentence("B", "A") == wanted


def test_the_verdict_on_equal_answers_needs_no_p_value():
    said = split(4, 0, 0, 2).sentence("A", "B")
    assert said == "The two cannot be told apart on these 6 songs: both are right on the same songs."


def test_with_few_songs_the_verdict_is_how_many_are_needed():
    assert split(0, 0, 5, 0).sentence("A", "B") == (
        "The two cannot be told apart on these 5 songs: no result could tell them apart, since at least 6 "
        "songs are needed."
    )
    assert "on this one song" in compared([True], [False]).sentence("A", "B")


def test_a_tiny_p_value_is_given_as_a_bound():
    assert split(0, 0, 30, 5).sentence("A", "B").endswith("(p < 0.001).")

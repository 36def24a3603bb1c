"""Leak checks and control runs on the pages: scores with intervals, and a verdict in words."""

import pytest

from mer.data.cache.controls import CONTROLS
from tests.page_helpers import errors, links, opened, said
from tests.run_helpers import tiny_config

SONGS = [(f"Sad/{n}.wav", f"song {n // 2}", ("Happy", "Sad")[n // 2 % 2]) for n in range(24)]
RIGHT = [(*row, row[2]) for row in SONGS]
GUESSED = [(*row, "Sad") for row in SONGS]


def words(app) -> str:
    return said(app).replace("\\", "")


@pytest.fixture
def leak(recorded):
    """A run that guesses with songs kept apart, and is always right with songs on both sides."""
    both = {"name": "net", "clips": "the same"}
    parted = recorded(RIGHT, key="parted", svm=RIGHT, config=tiny_config(group_by_song=False), **both)
    return recorded(GUESSED, key="kept", svm=RIGHT, **both), parted


@pytest.fixture
def control(recorded):
    """`control(kind, rows, ...)` stores a finished control run."""
    return lambda kind, rows, **more: recorded(
        rows, name=f"net {kind}", key=f"of {kind}", config=tiny_config(control=kind), **more
    )


@pytest.mark.parametrize("on", ["the same, test kept", "the same, test parted"])
def test_a_leak_check_shows_both_scores_with_intervals_and_a_conclusion(leak, on):
    app = opened("compare", on=on)
    assert errors(app) == []
    (choice,) = [box for box in app.selectbox if box.label == "Leak check"]
    assert choice.options == [f"net · {leak[0][:8]} and {leak[1][:8]}"]
    assert "With songs on both sides the network scores 100% (" in words(app)
    assert "instead of 50% (" in words(app)
    assert "+50 points (" in words(app)
    assert "the SVM scores 100% (76 to 100) instead of 100% (76 to 100), +0 points" in words(app)
    assert "Songs on both sides raise the score" in words(app)


def test_a_control_run_that_guesses_has_passed_on_compare_and_on_confusion(control):
    runs = [control(kind, GUESSED) for kind in CONTROLS]
    app = opened("compare", on="of silence")
    assert errors(app) == []
    assert "3 control runs, none of which scores above guessing" in app.success[0].value
    (table,) = [frame.value for frame in app.dataframe if "verdict" in frame.value]
    assert sorted(table["verdict"]) == [
        f"Passed: learns nothing from {learned}." for learned in sorted(CONTROLS.values())
    ]
    app = opened("confusion", run=[runs[0][:8]])
    assert "Passed: learns nothing from shuffled labels." in words(app)


def test_a_control_run_above_guessing_is_shown_as_failed(control):
    run = control("silence", RIGHT, svm=GUESSED)
    control("noise", GUESSED)
    (error,) = errors(opened("compare", on="of silence"))
    assert "Failed, unless by chance: the network scored above guessing on silence" in error
    assert "Failed, unless by chance" in words(opened("confusion", run=[run[:8]]))


def test_the_checks_are_shown_with_ordinary_runs_on_the_same_data(control, recorded):
    control("noise", GUESSED)
    recorded(RIGHT)
    app = opened("compare", on="made up")
    assert "1 control run, none of which scores above guessing" in app.success[0].value
    assert "No finished leak check on this data set yet" in words(app)


def test_compare_shows_control_runs_last(lab, control):
    control("noise", GUESSED)
    app = opened("compare")
    (choice,) = [box for box in app.selectbox if box.label == "Tested on"]
    assert "control" in choice.options[-1]
    assert "control" not in choice.value


def test_without_checks_the_page_links_to_train(lab):
    app = opened("compare")
    assert "No finished leak check and no control run on this data set yet" in words(app)
    assert links(app) == ["train"]


def test_the_page_names_a_damaged_control_run_and_shows_the_rest(control, recorded, lab, damage):
    run = control("noise", GUESSED)
    recorded(RIGHT)
    damage(lab.runs.folder(run, "evaluation") / "predictions.json")
    app = opened("compare", on="made up")
    (error,) = errors(app)
    assert f"run {run[:8]}: its predictions cannot be read" in error
    assert "Two runs, clip by clip" in said(app)

"""Leak checks and control runs on the pages: scores with intervals, and a verdict in words."""

import pytest

from mer.data.apart import MARKS, PARTED, UNCHECKED
from mer.data.cache.controls import CONTROLS
from mer.runs.results import test_key as key_of
from pages._ui.cached.results import SVM_TITLE
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
    assert "With songs on both sides the network scores 100% (74 to 100) instead of 50% (21 to 79)" in words(
        app
    )
    assert "+50 points (+3 to +79). Songs on both sides raise the score" in words(app)
    assert "the SVM scores 100% (74 to 100) instead of 100% (74 to 100), +0 points" in words(app)
    assert "+0 points (-26 to +26). Both runs are the same, so this shows nothing" in words(app)


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


@pytest.fixture
def parted(recorded):
    """A run that is always right, with songs on both sides; it is newer than an honest run that guesses."""
    honest = recorded(GUESSED, name="honest", config=tiny_config(folds=2))
    more = {"tags": {"mer.leak": PARTED}, "config": tiny_config(folds=2, group_by_song=False)}
    return honest, recorded(RIGHT, name="leaky", **more)


def test_a_run_with_songs_on_both_sides_is_never_ranked_with_honest_ones(lab, parted):
    keys = [key_of(lab.runs.get(run)) for run in parted]
    assert keys[0] != keys[1]
    app = opened("compare", on=keys[0])
    assert "leaky" not in " ".join(app.dataframe[0].value["run"])
    app = opened("compare", on=keys[1])
    (table,) = [frame.value for frame in app.dataframe if "accuracy by song" in frame.value]
    assert f"leaky · {parted[1][:8]} · {PARTED}" in list(table["run"])
    assert "against the highest" not in table
    (warning,) = [warning.value for warning in app.warning]
    assert warning == f"{MARKS[PARTED]} These runs have no rank."


def test_a_run_with_songs_on_both_sides_is_never_selected_before_an_honest_one(lab, parted):
    app = opened("compare")
    (choice,) = [box for box in app.selectbox if box.label == "Tested on"]
    assert PARTED in choice.options[-1]
    assert PARTED not in choice.value
    for name in ("confusion", "map", "live"):
        app = opened(name)
        assert parted[1] not in app.multiselect(key="run").value, name


def test_a_run_with_songs_on_both_sides_is_marked_wherever_its_score_is_shown(lab, parted):
    for name in ("confusion", "live"):
        assert MARKS[PARTED] in words(opened(name, run=[parted[1][:8]])), name
        assert MARKS[PARTED] not in words(opened(name, run=[parted[0][:8]])), name


def test_a_run_whose_songs_are_not_known_is_ranked_and_marked(lab, recorded):
    run = recorded(RIGHT, tags={"mer.leak": UNCHECKED})
    app = opened("compare", on="made up")
    assert f"made up · {run[:8]} · {UNCHECKED}" in list(app.dataframe[0].value["run"])
    assert app.dataframe[0].value["against the highest"][0] == "highest score"
    assert MARKS[UNCHECKED] in [warning.value for warning in app.warning]


def test_a_network_below_its_svm_is_not_the_highest(lab, recorded):
    recorded(GUESSED, name="net", svm=RIGHT)
    app = opened("compare", on="made up")
    table = app.dataframe[0].value
    assert table["run"][0] == SVM_TITLE
    assert list(table["against the highest"])[:2] == ["highest score", "below (p = 0.031)"]
    assert "against the SVM: below (p = 0.031)" in words(opened("confusion"))


def test_a_run_whose_answers_are_damaged_stays_in_the_table(lab, recorded, damage):
    run = recorded(GUESSED, name="net")
    recorded(RIGHT, name="better")
    damage(lab.runs.folder(run, "evaluation") / "predictions.json")
    table = opened("compare", on="made up").dataframe[0].value
    assert list(table["against the highest"])[:2] == ["highest score", "its answers cannot be read"]

"""Compare: runs tested on the same clips are ranked and shown with the baselines."""

import csv
import io

import pytest

from mer.runs.results import test_key as key_of
from pages._ui.cached import results
from pages._ui.cached.results import SVM_TITLE
from pages._ui.parts.leaderboard import leaderboard
from pages._ui.parts.pair import differences
from tests.page_helpers import errors, links, opened, said
from tests.run_helpers import tiny_config

SONGS = [(f"Sad/{n}.wav", f"song {n}", ("Happy", "Sad")[n % 2]) for n in range(12)]
RIGHT = [(*row, row[2]) for row in SONGS]
WRONG = [(*row, "Sad") for row in SONGS[:-1]] + [(*SONGS[-1], "Happy")]


@pytest.fixture
def taken(monkeypatch):
    """Content of the download buttons, by file name."""
    import streamlit as st

    found, real = {}, st.download_button

    def offer(label, data, file_name, *rest, **more):
        found[file_name] = data
        return real(label, data, file_name, *rest, **more)

    monkeypatch.setattr(st, "download_button", offer)
    return found


@pytest.fixture
def pair(recorded):
    """Two runs on the same twelve songs: one is always right, the other hardly ever on the happy ones."""
    return recorded(WRONG, name="worse"), recorded(RIGHT, name="better")


def board(app):
    return app.dataframe[0].value


def on(lab, run_id):
    return opened("compare", on=key_of(lab.runs.get(run_id)))


def test_runs_on_the_same_clips_are_ranked_best_first(lab, pair):
    table = board(opened("compare", on="made up, test made up"))
    assert list(table["run"])[:2] == [f"better · {pair[1][:8]}", f"worse · {pair[0][:8]}"]
    assert list(table["against the highest"])[:2] == ["highest score", "below (p = 0.016)"]
    assert table["accuracy by song"].iloc[0] == 1


def test_two_thirds_are_shown_as_67_percent(recorded):
    recorded(RIGHT[:8] + [(*row, "Happy" if row[2] == "Sad" else "Sad") for row in SONGS[8:]])
    assert board(opened("compare", on="made up, test made up"))["accuracy by song"].iloc[0] == 0.67


def test_runs_without_curves_get_no_empty_chart(recorded):
    recorded(RIGHT, config=tiny_config(folds=2))
    app = opened("compare", on="made up, test made up, 2 folds, seed 0")
    assert errors(app) == []
    assert not app.get("vega_lite_chart")
    assert "For the folds of a cross-validation, see Live" in said(app)


def test_baselines_by_guessing_are_listed_below_the_runs(lab):
    table = board(on(lab, lab.first))
    assert list(table["run"])[-2:] == ["always the largest class", "chance"]
    assert list(table["accuracy by song"])[-2:] == [0.5, 0.5]


def test_the_svm_is_listed_between_the_runs_and_guessing(lab, recorded):
    recorded(RIGHT, name="the network", svm=WRONG)
    table = board(opened("compare", on="made up"))
    assert list(table["run"])[1:] == [SVM_TITLE, "always the largest class", "chance"]
    assert table["accuracy by song"][1] == 0.42
    assert table["low"][1] < 5 / 12 < table["high"][1]


def test_a_run_and_its_svm_are_compared_clip_by_clip(lab, recorded):
    network = recorded(RIGHT, name="the network", svm=WRONG)
    app = opened("compare", on="made up", a=network[:8], b="svm", outcome="only first")
    assert "the network" in said(app)
    assert "is better on these 12 songs" in said(app)
    assert len(app.dataframe[1].value) == 7
    assert errors(app) == []


def test_runs_on_other_clips_are_left_out_of_the_table_with_a_note(lab):
    app = on(lab, lab.first)
    listed = " ".join(board(app)["run"])
    assert lab.first[:8] in listed
    assert lab.second[:8] in listed
    assert lab.elsewhere[:8] not in listed
    assert "Not ranked here: 1 more run, tested on other clips or split in another way" in said(app)


def test_another_set_of_test_clips_can_be_chosen(lab):
    app = on(lab, lab.first)
    (choice,) = [box for box in app.selectbox if box.label == "Tested on"]
    assert sorted(choice.options) == [
        "songs: 4 test clips of 2 songs (2 runs)", "songs: 8 test clips of 4 songs (1 run)",
    ]  # fmt: skip
    choice.select(key_of(lab.runs.get(lab.elsewhere))).run()
    assert lab.elsewhere[:8] in " ".join(board(app)["run"])
    assert any("Only one run was tested on these clips" in info.value for info in app.info)


def test_the_better_of_two_is_named_in_a_sentence(lab, pair):
    app = opened("compare", on="made up", a=pair[0][:8], b=pair[1][:8])
    assert f"better · {pair[1][:8]}".replace("·", "·") in said(app)
    assert "is better on these 12 songs" in said(app)
    assert "The interval excludes 0 if p is below 0.05, and only then" in said(app)


def test_two_similar_runs_cannot_be_told_apart(lab):
    app = on(lab, lab.first)
    assert "cannot be told apart on these 2 songs" in said(app)
    assert errors(app) == []


def test_a_run_is_not_compared_with_itself(lab, pair):
    app = opened("compare", on="made up", a=pair[0][:8], b=pair[0][:8])
    assert any("Choose two different runs" in info.value for info in app.info)


def test_clips_that_only_one_run_classifies_correctly_are_listed(lab, pair):
    app = opened("compare", on="made up", a=pair[0][:8], b=pair[1][:8], outcome="only second")
    clips = app.dataframe[1].value
    assert set(clips["outcome"]) == {"only second"}
    assert sorted(clips["clip"]) == sorted(clip for clip, *_, true, taken in WRONG if true != taken)
    app = opened("compare", on="made up", a=pair[0][:8], b=pair[1][:8], outcome="both wrong")
    assert any("There are no such clips" in info.value for info in app.info)
    assert len(app.dataframe) == 1


def test_the_csv_has_a_row_for_each_run_and_baseline(lab, pair, taken):
    opened("compare", on="made up")
    rows = list(csv.DictReader(io.StringIO(taken["runs.csv"])))
    assert [row["run"].split(" · ")[0] for row in rows] == [
        "better", "worse", "always the largest class", "chance",
    ]  # fmt: skip
    assert (rows[0]["accuracy by song"], rows[0]["songs"], rows[3]["songs"]) == ("1.0", "12.0", "")
    assert "95% interval" not in rows[0]


def test_the_interval_drawn_in_the_table_stays_inside_its_cell(lab):
    from urllib.parse import unquote
    from xml.etree import ElementTree

    group = results.Tested("these", (lab.runs.get(lab.first),))
    drawn = leaderboard(group)[0]["95% interval"]
    picture = ElementTree.fromstring(unquote(drawn.removeprefix("data:image/svg+xml;utf8,")))
    assert all(0 <= float(part.get("x") or part.get("cx")) <= 100 for part in picture)


def test_bars_point_right_where_the_second_run_is_better():
    found = type("Found", (), {"per_class": {"Happy": (0.5, 1.0), "Sad": (1.0, 0.75)}})
    (bars,) = differences(found).data
    assert dict(zip(bars.y, bars.x, strict=True)) == {"Sad, 100% → 75%": -0.25, "Happy, 50% → 100%": 0.5}


def test_the_page_works_with_no_run_chosen_for_curves(lab):
    app = on(lab, lab.first)
    app.multiselect(key="run").set_value([]).run()
    assert errors(app) == []
    assert not app.get("vega_lite_chart")


def test_unknown_values_in_the_address_are_ignored(lab):
    app = opened("compare", on="everything", run=["x"] * 9, a="zz", b="", outcome="maybe")
    assert errors(app) == []
    assert len(app.dataframe) >= 1


def test_without_finished_runs_training_is_offered():
    assert links(opened("compare")) == ["train"]

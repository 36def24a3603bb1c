"""Confusion: matrices of finished runs, and the clips of each cell with players."""

import json
import shutil

import pytest

from mer.runs.results import NEWER
from tests.page_helpers import errors, links, opened, said

ROWS = [(f"Sad/{n}{part}.wav", f"Sad {n}", "Sad", "Happy") for n in range(4) for part in "ab"]
MOODS = [("x.wav", None, "calm", "tense"), ("y.wav", None, "tense", "tense"), ("z.wav", None, "calm", "calm")]


def clips(app):
    """Names of the listed clips, as written above each player."""
    written = [text.value.replace("\\", "") for text in app.main.markdown]
    return [text.split(" · song ")[0] for text in written if ".wav" in text.split(" · song ")[0]]


def kept(lab, run_id):
    return json.loads((lab.runs.folder(run_id, "evaluation") / "predictions.json").read_text("utf-8"))


@pytest.mark.parametrize("true", ["Happy", "Sad"])
@pytest.mark.parametrize("taken_for", ["Happy", "Sad"])
def test_a_cell_lists_exactly_its_clips(lab, true, taken_for):
    app = opened("confusion", run=lab.elsewhere[:8], of=lab.elsewhere[:8], true=true, said=taken_for)
    rows = [row for row in kept(lab, lab.elsewhere) if (row["label"], row["predicted"]) == (true, taken_for)]
    assert sorted(clips(app)) == sorted(row["clip"] for row in rows)
    assert len(app.get("audio")) == len(rows)
    if not rows:
        assert any(
            f"There is no test clip of {true} predicted as {taken_for}" in info.value for info in app.info
        )


def test_clips_are_listed_by_probability_five_per_page(lab, recorded):
    run_id = recorded([*ROWS, ("Happy/0a.wav", "Happy 0", "Happy", "Happy")])
    app = opened("confusion", run=run_id[:8])
    assert f"**{len(ROWS)} clips of Sad predicted as Happy**" in said(app)
    assert clips(app) == [row[0] for row in ROWS[:5]]
    app.get("pagination")[0].set_value(2).run()
    assert clips(app) == [row[0] for row in ROWS[5:]]


def test_the_most_confused_cell_is_shown_first(lab, recorded):
    run_id = recorded([*ROWS, ("Happy/0a.wav", "Happy 0", "Happy", "Happy")])
    app = opened("confusion", run=run_id[:8])
    assert (app.selectbox(key="true").value, app.selectbox(key="said").value) == ("Sad", "Happy")
    assert "Sad as Happy, 8 of 8" in said(app)


def test_the_view_how_sure_shows_a_reliability_diagram(lab, recorded):
    run_id = recorded(
        [("a.wav", None, "calm", "calm"), *((f"{n}.wav", None, "calm", "tense") for n in range(9))]
    )
    app = opened("confusion", run=run_id[:8], show="how sure")
    assert "overconfident" in said(app)
    assert "Accuracy by song" in said(app)


def test_a_run_without_calibration_data_says_so(lab, recorded):
    run_id = recorded(MOODS)
    path = lab.runs.folder(run_id, "evaluation") / "scores.json"
    scores = json.loads(path.read_text("utf-8"))
    scores = {key: value for key, value in scores.items() if key not in NEWER}
    path.write_text(json.dumps(scores), "utf-8")
    app = opened("confusion", run=run_id[:8], show="how sure")
    assert "has no calibration data" in said(app)


def test_two_matrices_are_shown_side_by_side(lab):
    app = opened("confusion", run=[lab.first[:8], lab.second[:8]])
    assert len(app.get("plotly_chart")) >= 2
    assert [option[-8:] for option in app.selectbox(key="of").options] == [lab.first[:8], lab.second[:8]]


def test_each_matrix_has_the_classes_of_its_own_network(lab, recorded):
    other = recorded(MOODS)
    app = opened("confusion", run=[lab.first[:8], other[:8]], of=other[:8], true="calm", said="tense")
    assert app.selectbox(key="true").options == ["calm", "tense"]
    assert "**1 clip of calm predicted as tense**" in said(app)


def test_a_class_name_in_markdown_is_shown_literally(lab, recorded):
    other = recorded([("x.wav", None, "**a**", ":red[b]"), ("y.wav", None, ":red[b]", ":red[b]")])
    words = said(opened("confusion", run=other[:8]))
    assert r"1 clip of \*\*a\*\* predicted as \:red\[b\]" in words
    assert "Most confused\\: \\*\\*a" in words


def test_the_page_names_a_missing_clip_and_plays_the_others(lab, recorded):
    run_id = recorded([("Sad/0a.wav", "Sad 0", "Sad", "Happy"), ("Sad/99.wav", "Sad 9", "Sad", "Happy")])
    app = opened("confusion", run=run_id[:8])
    (error,) = errors(app)
    assert error.startswith("Sad/99.wav is no longer in ")
    assert "restore the data set to that place" in error
    assert len(app.get("audio")) == 1


def test_the_page_says_if_the_data_set_has_moved(lab, tmp_path):
    shutil.move(lab.corpus, tmp_path / "away")
    app = opened("confusion", run=lab.first[:8])
    shutil.move(tmp_path / "away", lab.corpus)
    assert errors(app)
    assert all(str(lab.corpus) in error for error in errors(app))
    assert not app.exception


def test_a_spectrogram_is_shown_on_demand(lab):
    app = opened("confusion", run=lab.first[:8])
    before = len(app.get("plotly_chart"))
    app.toggle[0].set_value(True).run()
    assert errors(app) == []
    assert len(app.get("plotly_chart")) == before + 1


def test_the_matrix_shows_counts_or_shares(lab):
    opened_as = {}
    for show in ("counts", "row %"):
        app = opened("confusion", run=lab.first[:8], show=show)
        opened_as[show] = app.get("plotly_chart")[0].proto.spec
    assert "100%" in opened_as["row %"]
    assert "100%" not in opened_as["counts"]


def test_a_run_without_a_matrix_says_so(lab):
    run_id = lab.runs.create("bare", {})
    lab.runs.log(run_id, [(1, {"test_song_accuracy": 0.5})])
    lab.runs.finish(run_id, "finished")
    app = opened("confusion", run=run_id[:8])
    lab.runs.delete(run_id)
    assert any("has no saved confusion matrix. Train it again" in warning.value for warning in app.warning)
    assert errors(app) == []


def test_scores_are_shown_with_chance_and_the_largest_class(lab):
    assert "chance 50%, largest class 50%" in said(opened("confusion", run=lab.first[:8]))


def test_without_a_chosen_network_no_matrix_is_shown(lab):
    app = opened("confusion", run=lab.first[:8])
    app.multiselect(key="run").set_value([]).run()
    assert errors(app) == []
    assert not app.get("plotly_chart")


def test_without_finished_runs_training_is_offered():
    assert links(opened("confusion")) == ["train"]

"""Ensembles on the pages: agreement between runs, the button that makes an ensemble, and where it appears."""

import re

import pytest

from mer.experiments.ensembling import join
from mer.runs.results import test_key as key_of
from mer.runs.store import RunStore
from pages._ui.parts.ensembles import alike
from pages._ui.shell.style import members_of
from tests.page_helpers import by_label, errors, opened, said
from tests.run_helpers import tiny_config


@pytest.fixture(scope="module")
def _both(_lab):
    """An ensemble of the first and the second run, made once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MER_HOME", str(_lab.home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        runs = RunStore.open()
        made = join(runs, [_lab.first, _lab.second]).run_id
        yield made
        runs.delete(made)


@pytest.fixture
def both(lab, _both):
    """The lab with the ensemble `lab.both`."""
    lab.both = _both
    return lab


def compare(lab, **query):
    return opened("compare", on=key_of(lab.runs.get(lab.first)), **query)


def test_a_map_of_an_ensemble_shows_its_predictions(lab, recorded):
    rows = [(f"{n}.wav", None, "calm", "calm" if n % 2 else "tense") for n in range(8)]
    made = recorded(rows, tags={"mer.members": f"{lab.first},{lab.second}"})
    app = opened("map", run=made[:8])
    assert errors(app) == []
    assert "laid out by the predicted probabilities" in said(app)


def test_the_similarity_of_embeddings_leaves_out_ensembles(both):
    app = opened("map", run=[both.first[:8], both.second[:8], both.both[:8]], colour="network")
    app.toggle(key="alike").set_value(True).run()
    assert errors(app) == []
    app.multiselect(key="run").set_value([both.first, both.both]).run()
    assert errors(app) == []
    assert not app.toggle


def test_the_agreement_chart_names_each_run():
    found = {"agreement": [[1, 0.25], [0.25, 1]], "kappa": [[1, -0.5], [-0.5, 1]]}
    chart = alike(found, ["abc", "def"])
    cells, points = chart.data
    assert [note.text for note in chart.layout.annotations] == ["100%", "25%", "25%", "100%"]
    assert points.customdata[1] == "abc and def: 25% the same, kappa -0.50"
    assert list(cells.x) == list(cells.y) == ["abc", "def"]


def test_the_button_makes_an_ensemble_and_shows_its_rank(lab):
    before = {run.id for run in lab.runs.runs()}
    app = compare(lab, join=[lab.first[:8], lab.second[:8]])
    assert errors(app) == []
    by_label(app.button, "Make an ensemble").click().run()
    (made,) = [run for run in lab.runs.runs() if run.id not in before]
    lab.runs.delete(made.id)
    assert errors(app) == []
    assert set(made.members) == {lab.first, lab.second}
    assert re.search(r"rank \d of \d above", app.success[0].value)
    assert made.id[:8] in app.success[0].value
    board = app.dataframe[0].value
    row = board[board["run"].str.contains(made.id[:8])].iloc[0]
    assert row["ensemble of"] == members_of(made)
    assert made.spec["command"].startswith("python -m mer ensemble ")


def test_an_ensemble_is_refused_as_a_member_with_an_error(both):
    app = compare(both, join=[both.first[:8], both.both[:8]])
    by_label(app.button, "Make an ensemble").click().run()
    (message,) = errors(app)
    assert "is an ensemble; name its members instead" in message


def test_one_chosen_run_shows_no_agreement(lab):
    app = compare(lab, join=[lab.first[:8]])
    assert "Choose two or more runs" in said(app)
    assert not [button for button in app.button if button.label.startswith("Make an ensemble")]


def test_without_an_ensemble_the_table_has_no_column_of_members(recorded):
    recorded([("a.wav", "a", "Sad", "Sad"), ("b.wav", "b", "Happy", "Happy")])
    app = opened("compare", on="made up, test made up")
    assert "ensemble of" not in list(app.dataframe[0].proto.column_order)


def test_predict_offers_an_ensemble_and_names_its_members(both):
    app = opened("predict", model=both.both[:8])
    assert errors(app) == []
    assert "It averages mobilenet" in said(app).replace("\\", "")
    assert "ensemble of 2 · songs · run" in said(app).replace("\\", "")


def test_confusion_shows_the_matrix_and_the_clips_of_an_ensemble(both):
    app = opened("confusion", run=[both.both[:8]])
    assert errors(app) == []
    assert f"An ensemble of {both.first[:8]}, {both.second[:8]}" in said(app)
    assert "Listen to a cell" in said(app)


def test_an_ensemble_is_explained_on_predict_and_on_confusion(both):
    for app in (opened("predict", model=both.both[:8]), opened("confusion", run=[both.both[:8]])):
        next(toggle for toggle in app.toggle if toggle.label == "Explain").set_value(True).run()
        assert errors(app) == []
        assert any(part in said(app) for part in ("Marked region", "There is no evidence for"))


def test_for_an_ensemble_of_cross_validations_the_page_names_members_that_can_be_explained(lab, recorded):
    rows = [("Sad/0a.wav", "Sad 0", "Sad", "Sad"), ("Happy/0a.wav", "Happy 0", "Happy", "Happy")]
    members = {"mer.members": f"{lab.first},{lab.second}"}
    made = recorded(rows, config=tiny_config(folds=2), tags=members)
    app = opened("confusion", run=[made[:8]])
    next(toggle for toggle in app.toggle if toggle.label == "Explain").set_value(True).run()
    (error,) = errors(app)
    assert f"explain it in one of its members {lab.first[:8]}, {lab.second[:8]}" in error


def test_home_counts_an_ensemble_and_live_shows_its_members(both):
    own = sum(not run.parent and run.status == "finished" for run in both.runs.runs())
    assert f"{own} trained here" in said(opened("home"))
    app = opened("live", run=[both.both[:8]])
    assert errors(app) == []
    assert "an ensemble of" in said(app)


def test_a_damaged_ensemble_is_left_out_of_the_models_with_the_reason(both, damage):
    damage(both.runs.folder(both.both, "checkpoint") / "member-2" / "card.json")
    app = opened("predict")
    assert any("A model is left out" in warning.value for warning in app.warning)

"""Ensembles on the pages: how alike runs are, the button that joins them, and where the ensemble is seen."""

from dataclasses import replace

import pytest

from mer.experiments.ensembling import join
from mer.experiments.experiment import Experiment
from mer.experiments.prepared import Spec
from mer.runs.results import test_key as key_of
from pages._ui.parts.ensembles import alike
from pages._ui.shell.style import members_of
from tests.page_helpers import by_label, errors, opened, said
from tests.run_helpers import tiny_config


@pytest.fixture
def cleared(lab):
    """The lab without the ensembles that a test made."""
    yield lab
    for run in lab.runs.runs():
        if run.members:
            lab.runs.delete(run.id)


@pytest.fixture
def both(cleared):
    """An ensemble of the first and the second run."""
    cleared.both = join(cleared.runs, [cleared.first, cleared.second]).run_id
    return cleared


def compare(lab, **query):
    return opened("compare", on=key_of(lab.runs.get(lab.first)), **query)


def test_agreement_is_drawn_with_a_name_for_each_run():
    found = {"agreement": [[1, 0.25], [0.25, 1]], "kappa": [[1, -0.5], [-0.5, 1]]}
    (cells,) = alike(found, ["abc", "def"]).data
    assert cells.text[0][1] == "25%"
    assert cells.customdata[0][1] == "abc and def: 25% the same, kappa -0.50"
    assert list(cells.x) == list(cells.y) == ["abc", "def"]


def test_the_button_makes_an_ensemble_and_says_where_it_stands(cleared):
    app = compare(cleared, join=[cleared.first[:8], cleared.second[:8]])
    assert errors(app) == []
    by_label(app.button, "Make an ensemble").click().run()
    assert errors(app) == []
    (made,) = [run for run in cleared.runs.runs() if run.members]
    assert set(made.members) == {cleared.first, cleared.second}
    assert "rank 1 of" in app.success[0].value
    assert made.id[:8] in app.success[0].value
    board = app.dataframe[0].value
    row = board[board["run"].str.contains(made.id[:8])].iloc[0]
    assert row["ensemble of"] == members_of(made)
    assert made.spec["command"].startswith("python -m mer ensemble ")


def test_what_cannot_be_joined_is_said_in_plain_words(both):
    app = compare(both, join=[both.first[:8], both.both[:8]])
    by_label(app.button, "Make an ensemble").click().run()
    (message,) = errors(app)
    assert "is an ensemble itself; name its members instead" in message


def test_one_run_alone_is_compared_with_none(lab):
    app = compare(lab, join=[lab.first[:8]])
    assert "Choose two or more runs" in said(app)
    assert not [button for button in app.button if button.label.startswith("Make an ensemble")]


def test_without_an_ensemble_nothing_is_said_of_members(lab):
    app = compare(lab)
    assert "ensemble of" not in list(app.dataframe[0].proto.column_order)


def test_an_ensemble_is_among_the_models_of_predict_with_its_members(both):
    app = opened("predict", model=both.both[:8])
    assert errors(app) == []
    assert "It averages mobilenet" in said(app).replace("\\", "")
    assert "ensemble of 2 · songs · run" in said(app).replace("\\", "")


def test_an_ensemble_has_a_confusion_matrix_and_clips(both):
    app = opened("confusion", run=[both.both[:8]])
    assert errors(app) == []
    assert f"An ensemble of {both.first[:8]}, {both.second[:8]}" in said(app)
    assert "Listen to a cell" in said(app)


def test_it_is_explained_on_predict_and_on_confusion(both):
    for app in (opened("predict", model=both.both[:8]), opened("confusion", run=[both.both[:8]])):
        next(toggle for toggle in app.toggle if toggle.label == "Explain").set_value(True).run()
        assert errors(app) == []
        assert any(part in said(app) for part in ("Marked region", "There is no evidence for"))


def test_of_joined_cross_validations_a_member_is_to_be_asked_for_an_explanation(cleared):
    spec = Spec(data=str(cleared.corpus), config=tiny_config(epochs=1, folds=2))
    outcomes = [Experiment().train(replace(spec, rung=name)) for name in ("one", "other")]
    try:
        made = join(cleared.runs, [outcome.run_id for outcome in outcomes]).run_id
        app = opened("confusion", run=[made[:8]])
        next(toggle for toggle in app.toggle if toggle.label == "Explain").set_value(True).run()
        (error,) = errors(app)
        assert f"explain it in one of its members {outcomes[0].run_id[:8]}, {outcomes[1].run_id[:8]}" in error
    finally:
        for outcome in outcomes:
            for part in (*outcome.folds, outcome):
                cleared.runs.delete(part.run_id)


def test_home_counts_it_and_live_shows_it(both):
    own = sum(not run.parent and run.status == "finished" for run in both.runs.runs())
    assert f"{own} trained here" in said(opened("home"))
    app = opened("live", run=[both.both[:8]])
    assert errors(app) == []
    assert "an ensemble of" in said(app)


def test_a_damaged_ensemble_is_left_out_of_the_models_with_the_reason(both, damage):
    damage(both.runs.folder(both.both, "checkpoint") / "member-2" / "card.json")
    app = opened("predict")
    assert any("A model is left out" in warning.value for warning in app.warning)

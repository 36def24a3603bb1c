"""Ladder: launching a ladder, its progress, and the effect of each change."""

import json

import pytest

from mer.experiments.prepared import Spec
from mer.experiments.study2022.ladder import START, rungs
from mer.experiments.study2022.published import CLASSES, RESULTS
from mer.runs.run import owner
from pages._ui.parts import ladder as parts
from pages._ui.parts import launch as launching
from tests.page_helpers import by_label, errors, links, opened, said

NAME = "ladder-of-the-tests"
ROWS = [(f"{label}/{n}.wav", f"{label} {n}", label, label) for label in ("Happy", "Sad") for n in range(5)]
WORSE = [(*row[:3], "Sad") for row in ROWS]
CONFIGS = {rung.key: rung.config for rung in rungs()}


@pytest.fixture
def ladder(recorded):
    """A ladder of two rungs, with half and with all clips right, and a further run on other clips."""

    def keep(key, rows, test):
        return recorded(rows, name=key, key=test, config=CONFIGS[key], ladder=NAME, rung=key)

    return [keep(START, WORSE, "a"), keep("outputs", ROWS, "a"), keep("released-shuffled", ROWS, "b")]


@pytest.fixture
def under_way(lab, ladder):
    """The same ladder with one more rung, which waits."""
    spec = Spec(str(lab.corpus), CONFIGS["evaluation"], ladder=NAME, rung="evaluation")
    run_id = lab.runs.create("evaluation", spec.to_dict())
    lab.runs.tag(run_id, {"mer.owner": owner()})
    yield run_id
    lab.runs.delete(run_id)


@pytest.fixture
def launched(lab, monkeypatch, checked):
    """The specs that were launched; nothing is started."""
    specs = []
    monkeypatch.setattr(launching, "launch", lambda store, spec: specs.append(spec) or lab.first)
    return specs


def rows_of(app):
    (table,) = app.table
    return table.value.replace("\u00a0", " ", regex=True).to_dict("records")


def charts(app):
    return [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]


def test_without_a_data_set_the_page_links_to_data():
    app = opened("ladder")
    assert links(app) == ["data", "study"]
    assert not app.main.button


def test_every_rung_is_launched_as_a_separate_run(launched, lab):
    app = opened("ladder", network="resnet18", weights="none")
    by_label(app.main.button, "Launch the ladder").click().run()
    assert errors(app) == []
    planned = rungs(backbone="resnet18", weights="none")
    assert [spec.config for spec in launched] == [rung.config for rung in planned]
    assert [spec.rung for spec in launched] == [rung.key for rung in planned]
    assert len({spec.ladder for spec in launched}) == 1
    assert {spec.data for spec in launched} == {str(lab.corpus)}


def test_a_network_without_local_weights_starts_from_random_weights(launched):
    app = opened("ladder", network="alexnet")
    assert app.selectbox(key="weights").value == "none"
    app = opened("ladder", network="alexnet", weights="imagenet")
    assert "ImageNet weights of alexnet are not on this machine" in said(app)


def test_the_time_needed_is_shown_on_request(launched, monkeypatch):
    asked = []
    monkeypatch.setattr(parts, "time_needed", lambda entry, specs: asked.append(len(specs)) or 600.0)
    app = opened("ladder")
    assert asked == []
    by_label(app.main.button, "How long").click().run()
    assert asked == [len(rungs())]
    assert "About 10 min on this machine" in said(app)


def test_each_rung_has_its_score_and_its_change(ladder):
    bottom, outputs, aside = rows_of(opened("ladder", ladder=NAME))
    assert bottom["by song"].startswith("50% (")
    assert bottom["change"] == ""
    assert outputs["by song"].startswith("100% (")
    assert outputs["change"].startswith("+50 points (")
    assert "p = " in outputs["change"]
    assert "outputs: imagenet → classes" in outputs["description"].replace("\\", "")
    assert (aside[""], aside["change"]) == ("–", "other test clips")


def test_the_chart_has_every_finished_rung_and_both_reference_lines(ladder):
    chart = charts(opened("ladder", ladder=NAME))[0]
    assert len(chart["data"][0]["y"]) == 3
    assert chart["data"][0]["y"][0] == "0 as released, songs kept apart"
    assert {line["name"] for line in chart["layout"]["shapes"]} == {"chance 50%", "largest class 50%"}


def test_the_published_matrix_is_shown_beside_that_of_the_lowest_rung(ladder):
    app = opened("ladder", ladder=NAME)
    titles = [chart["layout"]["title"]["text"] for chart in charts(app)]
    assert titles[1:] == ["The lowest rung", f"Published: {RESULTS[0].name} on MER500"]
    assert "38.8% (mobilenet_v3_small) and 36.7% (alexnet)" in said(app)
    assert "largest class scores 27.6%" in said(app)
    assert links(app) == ["study"]


def test_the_published_matrix_has_the_order_of_classes_of_the_lowest_rung(recorded):
    rows = [(f"{label}.wav", label, label, label) for label in CLASSES]
    recorded(rows, config=CONFIGS[START], ladder=NAME, rung=START)
    lowest, published = (chart["data"][0]["y"] for chart in charts(opened("ladder", ladder=NAME))[1:])
    assert lowest == published == sorted(CLASSES)


def test_the_published_matrix_keeps_its_order_beside_other_classes(ladder):
    assert charts(opened("ladder", ladder=NAME))[2]["data"][0]["y"] == list(CLASSES)


def test_a_running_ladder_shows_its_progress(under_way):
    app = opened("ladder", ladder=NAME)
    assert errors(app) == []
    assert rows_of(app)[3]["by song"] == "queued"
    assert "Stop the ladder" in [button.label for button in app.main.button]


def test_a_ladder_can_be_stopped(under_way, lab):
    app = opened("ladder", ladder=NAME)
    by_label(app.main.button, "Stop the ladder").click().run()
    assert lab.runs.get(under_way).status == "stopped"
    assert errors(app) == []
    assert "Stop the ladder" not in [button.label for button in app.main.button]


def test_the_newest_ladder_is_shown_first_and_the_address_names_it_after_a_choice(ladder):
    app = opened("ladder")
    assert app.selectbox(key="ladder").value == NAME
    assert not app.query_params
    app.selectbox(key="weights").select("none").run()
    assert app.query_params["ladder"] in (NAME[:8], [NAME[:8]])


def test_the_page_reports_damaged_predictions_and_shows_the_rest(ladder, lab, damage):
    damage(lab.runs.folder(ladder[1], "evaluation") / "predictions.json")
    app = opened("ladder", ladder=NAME)
    assert any("its predictions cannot be read" in error for error in errors(app))
    assert "The ladder" in [title.value for title in app.title]


def test_the_study_page_links_to_the_ladder():
    assert "ladder" in links(opened("study"))

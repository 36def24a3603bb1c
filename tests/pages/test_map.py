"""Map: every test clip is a point, laid out by embeddings or predictions; a click plays it."""

import numpy as np
import pytest

from tests.page_helpers import errors, links, opened, said


def test_without_runs_the_page_links_to_train(own_home):
    app = opened("map")
    assert "No finished runs yet" in said(app)
    assert any("train" in link for link in links(app))


def test_one_network_shows_its_test_clips_on_a_map(lab):
    app = opened("map", run=lab.elsewhere[:8])
    assert not errors(app)
    assert len(app.get("plotly_chart")) == 1
    assert "laid out by the embeddings of the network" in said(app)


def test_two_networks_share_a_map_of_their_predictions(lab):
    app = opened("map", run=[lab.first[:8], lab.second[:8]], colour="network")
    assert not errors(app)
    assert "the predicted probabilities" in said(app)
    app.toggle(key="alike").set_value(True).run()
    assert not errors(app)
    assert len(app.get("plotly_chart")) == 2
    assert "linear CKA" in said(app)


@pytest.mark.parametrize("by", ["emotion", "taken for", "right or wrong"])
def test_the_colour_is_in_the_address(lab, by):
    app = opened("map", run=lab.elsewhere[:8], colour=by)
    assert app.session_state["colour"] == by
    assert not errors(app)


def test_a_run_with_too_few_test_clips_has_no_map(lab):
    app = opened("map", run=lab.first[:8])
    assert errors(app) == ["4 clips are too few for a map; use at least 5"]


def test_networks_tested_on_different_clips_share_no_map(lab):
    app = opened("map", run=[lab.first[:8], lab.elsewhere[:8]])
    assert "cannot share a map" in said(app)
    assert not app.get("plotly_chart")


def test_without_its_clips_the_page_says_what_to_do(lab, recorded):
    run_id = recorded([(f"gone{n}.wav", None, "calm", "calm" if n % 2 else "tense") for n in range(8)])
    app = opened("map", run=run_id[:8])
    assert errors(app)
    assert all("restore the file" in text or "train it again" in text for text in errors(app))


def test_the_map_has_each_clip_once_and_mistakes_are_hollow():
    from pages._ui.charts.map import map_of

    rows = [
        {"clip": f"{n}.wav", "label": "Sad", "predicted": said, "probabilities": {"Happy": 0.5, "Sad": 0.5}}
        for n, said in enumerate(("Sad", "Happy", "Sad"))
    ]
    chart = map_of(np.zeros((3, 2)), [(None, row) for row in rows], "right or wrong")
    assert sorted(number for trace in chart.data for number in trace.customdata) == [0, 1, 2]
    seen = [symbol for trace in chart.data for symbol in trace.marker.symbol]
    assert len([symbol for symbol in seen if symbol.endswith("-open")]) == 1
    legend = [trace for trace in chart.data if trace.showlegend is not False]
    assert [(trace.name, trace.marker.symbol) for trace in legend] == [
        ("right", ("circle",)),
        ("wrong", ("square",)),
    ]

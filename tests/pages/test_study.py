"""The 2022 study: its six matrices, beside what always naming the largest class would score."""

import json

from mer.experiments.study2022.published import CLASSES, DEVIATIONS, RESULTS
from tests.page_helpers import opened, said


def matrices(app):
    """The six matrices, as their charts have them."""
    charts = [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]
    return {chart["layout"]["title"]["text"]: chart["data"][0] for chart in charts if len(chart["data"]) == 2}


def test_each_network_has_its_matrix():
    found = matrices(opened("study"))
    assert list(found) == [result.name for result in RESULTS]
    assert len(found) == 6
    for result in RESULTS:
        assert found[result.name]["y"] == list(CLASSES)
        assert len(found[result.name]["x"]) == len(result.confusion[0])


def test_every_matrix_is_of_98_clips_and_says_so():
    found = matrices(opened("study"))
    assert {
        name: sum(int(cell) for row in matrix["text"] for cell in row) for name, matrix in found.items()
    } == dict.fromkeys(found, 98)
    assert said(opened("study")).count("98 clips.") == 7, "six captions and the introduction"


def test_scores_stand_beside_the_largest_class():
    words = said(opened("study"))
    assert "Always predicting the largest class would score 28%" in words
    assert "2 of the six networks score more than that" in words


def test_answers_that_are_no_emotion_are_pointed_out():
    words = said(opened("study"))
    assert words.count("were assigned no emotion") == sum(result.outside > 0 for result in RESULTS)


def test_shares_of_rows_can_be_shown():
    counts, shares = (
        str(matrices(opened("study", show=show))["alexnet"]["text"]) for show in ("counts", "row %")
    )
    assert "%" in shares
    assert "%" not in counts


def test_where_the_code_departed_from_the_report_is_listed():
    (table,) = opened("study").table
    assert len(table.value) == len(DEVIATIONS)
    assert "Source: " in said(opened("study"))

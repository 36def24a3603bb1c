"""2022 study: its six matrices, with the score of always predicting the largest class."""

import json

import pytest

from mer.experiments.study2022.published import CLASSES, DEVIATIONS, RESULTS
from tests.page_helpers import opened, said


@pytest.fixture(scope="module")
def study():
    """The page, opened once."""
    return opened("study")


def matrices(app):
    """The data of each confusion matrix by its title, and the text of each cell."""
    charts = [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]
    return {
        chart["layout"]["title"]["text"]: chart["data"][0]
        | {"text": [note["text"] for note in chart["layout"]["annotations"]]}
        for chart in charts
        if len(chart["data"]) == 2
    }


def test_each_network_has_its_matrix(study):
    found = matrices(study)
    assert list(found) == [result.name for result in RESULTS]
    assert len(found) == 6
    for result in RESULTS:
        assert found[result.name]["y"] == list(CLASSES)
        assert len(found[result.name]["x"]) == len(result.confusion[0])


def test_every_matrix_counts_98_clips_and_its_caption_says_so(study):
    found = matrices(study)
    counted = {name: sum(map(int, matrix["text"])) for name, matrix in found.items()}
    assert counted == dict.fromkeys(found, 98)
    assert said(study).count("98 clips.") == 7, "six captions and the introduction"


def test_scores_are_shown_with_that_of_the_largest_class(study):
    words = said(study)
    assert "Always predicting the largest class would score 28%" in words
    assert "2 of the six networks score more than that" in words


def test_clips_that_were_assigned_no_emotion_are_counted(study):
    words = said(study)
    assert words.count("were assigned no emotion") == sum(result.outside > 0 for result in RESULTS)


def test_shares_of_rows_can_be_shown(study):
    counts, shares = (
        str(matrices(page)["alexnet"]["text"]) for page in (study, opened("study", show="row %"))
    )
    assert "%" in shares
    assert "%" not in counts


def test_the_differences_between_report_and_code_are_listed(study):
    (table,) = study.table
    assert len(table.value) == len(DEVIATIONS)
    assert "Source: " in said(study)

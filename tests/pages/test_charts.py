"""What all charts have in common: a text alternative, no toolbar, texts that stand out."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest

from pages._ui.charts.base import figure, heatmap
from pages._ui.charts.confusion import matrix
from pages._ui.charts.dataset import balance, lengths
from pages._ui.charts.sound import probability_bars
from tests.page_helpers import opened
from tests.pages.test_style import contrast

ROOT = Path(__file__).parents[2]
DRAWING = ("plotly_chart", "vega_lite_chart", "arrow_vega_lite_chart")


def charts(app):
    return [chart.proto for kind in DRAWING for chart in app.get(kind)]


@pytest.mark.parametrize("name", ["predict", "data", "compare", "confusion", "map", "study", "live"])
def test_every_chart_of_a_page_says_in_words_what_it_shows(name, lab, checked):
    found = charts(opened(name))
    assert found
    assert all(re.search(r"\w{3,}.* .*\d", chart.alt) for chart in found), [chart.alt for chart in found]


def test_no_chart_has_a_toolbar(lab):
    (chart, *_) = opened("compare").get("plotly_chart")
    assert chart.proto.config == '{"displayModeBar": false}'


def test_all_pages_draw_charts_in_the_same_way():
    """One place gives every chart its text and takes its toolbar away."""
    calls = [
        (path.name, node.attr)
        for path in (ROOT / "pages").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in DRAWING
    ]
    assert sorted(calls) == [("base.py", "plotly_chart"), ("curves.py", "vega_lite_chart")]


def test_a_chart_without_words_cannot_be_made():
    with pytest.raises(TypeError, match="alt"):
        figure([], title="t", height=100)


def test_the_words_of_a_chart_give_its_result():
    assert "Happy खुशी, 62%; Sad दुख, 38%" in probability_bars({"Sad": 0.38, "Happy": 0.62}).layout.meta["alt"]
    assert "Happy 3, calm 5" in balance({"Happy": 3, "calm": 5}).layout.meta["alt"]
    assert "2 clips: 1.0 to 2.5 s, median 1.8 s" in lengths([1.0, 2.5]).layout.meta["alt"]
    words = matrix([[3, 1], [0, 4]], ["Sad", "Happy"], ["Sad", "Happy"], shares=False, title="one")
    assert "7 of 8 clips right. Most confused: Sad as Happy, 1 of 4." in words.layout.meta["alt"]


def test_the_text_in_a_cell_stands_out_from_its_colour():
    import plotly.colors

    shares = np.linspace(0, 1, 21)[None]
    names = [f"{share:.2f}" for share in shares[0]]
    chart = heatmap(shares, rows=["r"], columns=names, words=[names], title="t", alt="a", height=100)
    for share, note in zip(shares[0], chart.layout.annotations, strict=True):
        (colour,) = plotly.colors.sample_colorscale("Viridis", [share])
        cell = "#" + "".join(f"{round(part):02X}" for part in plotly.colors.unlabel_rgb(colour))
        assert contrast(note.font.color, cell) > 4.5

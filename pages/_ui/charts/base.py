"""The common look of charts: small title, no background, escaped names, a text alternative."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import plotly.colors
import plotly.graph_objects as go
import streamlit as st
from plotly.basedatatypes import BaseTraceType

from mer.metrics.score import Score
from mer.utils.text import visible
from pages._ui.shell.style import inert, percent

__all__ = ["DOT", "LINE", "draw", "figure", "forest", "heatmap"]

LINE, DOT = "#D55E00", "#4477AA"
HALFWAY = 0.179  # luminance at which black and white have the same contrast, 4.6


def draw(chart: go.Figure, *, key: str, **options: Any) -> Any:
    """Show a chart of `figure` with its text alternative, and without Plotly's toolbar.

    The toolbar covers the chart on a phone, and its buttons are stops of the Tab key before every other one.

    Parameters
    ----------
    chart
        The chart.
    key
        Its key.
    **options
        Further arguments of `st.plotly_chart`, which returns what this function returns.
    """
    alt = chart.layout.meta["alt"]
    chart.layout.meta = None  # Plotly would interpret markup in it
    return st.plotly_chart(chart, key=key, alt=alt, config={"displayModeBar": False}, **options)


def figure(
    traces: Iterable, *, title: str, alt: str, height: int, left: int = 8, **more: object
) -> go.Figure:
    """Make a figure in the common look.

    Parameters
    ----------
    traces
        Plotly traces. Their texts are escaped.
    title
        Title; it is escaped too.
    alt
        What the chart shows, in a sentence, for those who cannot see it.
    height
        Height in pixels.
    left
        Left margin in pixels. An axis with `automargin` may widen it.
    **more
        Further settings of the layout.
    """
    shared = {
        "title": {"text": inert(title), "font": {"size": 14}},
        "height": height,
        "margin": {"l": left, "r": 16, "t": 40 if title else 8, "b": 40},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "dragmode": False,  # a finger that moves over a chart scrolls the page
        "meta": {"alt": visible(alt)},
    }
    return go.Figure([_inert(trace) for trace in traces]).update_layout(shared | more)


def _inert(trace: BaseTraceType) -> BaseTraceType:
    """Escape all texts of a trace, so that Plotly shows tags literally."""
    for part in ("x", "y", "text", "customdata"):
        values = getattr(trace, part, None)
        if values is not None and len(values) and isinstance(values[0], str):
            trace[part] = [inert(value) for value in values]
    if trace.name:
        trace.name = inert(trace.name)
    return trace


def heatmap(
    values: Sequence[Sequence[float]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    words: Sequence[Sequence[str]],
    about: Sequence[Sequence[str]] = (),
    highest: float | None = 1.0,
    **more: Any,
) -> go.Figure:
    """Chart of a matrix, with the first row on top and a text in each cell, black or white for contrast.

    Streamlit gets clicks on points, but not on a heatmap, so an invisible point lies on each cell.

    Parameters
    ----------
    values
        Values from 0, shape (rows, columns).
    rows, columns
        Names of the rows and columns.
    words
        The text of each cell.
    about
        A sentence on each cell, shown under the pointer.
    highest
        Value of the brightest colour; None for the largest one.
    **more
        Arguments of `figure`, and optionally `colorbar`.
    """
    bar = {"thickness": 8} | more.pop("colorbar", {})
    highest = highest or max(int(np.max(values, initial=0)), 1)
    shares = np.asarray(values, float) / highest
    cells = go.Heatmap(
        z=values, x=list(columns), y=list(rows), colorscale="Viridis", zmin=0, zmax=highest, hoverinfo="skip",
        xgap=2, ygap=2, colorbar=bar,
    )  # fmt: skip
    points = go.Scatter(
        x=[column for _ in rows for column in columns], y=[row for row in rows for _ in columns],
        mode="markers", marker={"size": 48, "symbol": "square", "opacity": 0}, showlegend=False,
        customdata=[text for row in about for text in row] or None, hoverinfo=None if about else "skip",
        hovertemplate="%{customdata}<extra></extra>" if about else None,
    )  # fmt: skip
    chart = figure([cells, points], **more)
    notes = [
        {"x": j, "y": i, "text": words[i][j], "showarrow": False, "font": {"color": _ink(shares[i, j])}}
        for i in range(len(rows))
        for j in range(len(columns))
    ]
    chart.update_layout(annotations=notes)
    across, down = [-0.5, len(columns) - 0.5], [len(rows) - 0.5, -0.5]
    chart.update_xaxes(type="category", range=across, automargin=True)
    return chart.update_yaxes(type="category", range=down, automargin=True)


def _ink(share: float) -> str:
    """Black or white, whichever stands out more from the colour of a share, 0 to 1."""
    (colour,) = plotly.colors.sample_colorscale("Viridis", [min(share, 1)])
    red, green, blue = (
        level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4
        for level in np.array(plotly.colors.unlabel_rgb(colour)) / 255
    )
    return "#000000" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > HALFWAY else "#FFFFFF"


def forest(
    names: Sequence[str],
    scores: Sequence[Score],
    *,
    chance: float | None,
    majority: float | None,
    svm: float | None = None,
    title: str,
    highest: float = 1.0,
) -> go.Figure:
    """Chart of scores as dots with intervals, and reference lines that the legend names.

    Parameters
    ----------
    names, scores
        Names and scores, 0 to 1, from top to bottom.
    chance, majority, svm
        Scores of the reference lines, 0 to 1; None for no line.
    title
        Title of the chart.
    highest
        End of the axis, 0 to 1.
    """
    value, low, high = zip(*scores, strict=True)
    spread = {
        "type": "data",
        "thickness": 2,
        "array": [top - middle for middle, top in zip(value, high, strict=True)],
        "arrayminus": [middle - bottom for middle, bottom in zip(value, low, strict=True)],
    }
    dots = go.Scatter(
        x=value, y=list(names), mode="markers", error_x=spread, marker={"size": 10, "color": DOT},
        hovertemplate="%{y}: %{x:.0%}<extra></extra>", showlegend=False,
    )  # fmt: skip
    lines = ((chance, "chance", "dot"), (majority, "largest class", "dash"), (svm, "SVM", "dashdot"))
    beside = [(place, f"{words} {percent(place)}", dash) for place, words, dash in lines if place is not None]
    said = [f"{name} {Score(*score)}" for name, score in zip(names, scores, strict=True)]
    chart = figure(
        [dots], title=title, alt="; ".join([f"{title}: {said[0]}", *said[1:], *(row[1] for row in beside)]),
        height=150 + 34 * len(names), legend={"orientation": "h", "y": 0, "yref": "container"},
        margin_b=64,
    )  # fmt: skip
    for place, words, dash in beside:  # in the legend, since labels on lines at the same place would overlap
        chart.add_vline(x=place, line_dash=dash, line_color=LINE, name=words, showlegend=True)
    chart.update_yaxes(automargin=True, type="category", range=[len(names) - 0.5, -0.5])
    return chart.update_xaxes(range=[0, highest], tickformat=".0%")

"""The common look of charts: small title, no background, narrow margins, escaped names."""

from collections.abc import Iterable, Sequence

import plotly.graph_objects as go
from plotly.basedatatypes import BaseTraceType

from mer.metrics.score import Score
from pages._ui.shell.style import inert

__all__ = ["DOT", "LINE", "figure", "forest"]

LINE, DOT = "#D55E00", "#4477AA"


def figure(traces: Iterable, *, title: str, height: int, left: int = 8, **more: object) -> go.Figure:
    """Make a figure in the common look.

    Parameters
    ----------
    traces
        Plotly traces. Their texts are escaped.
    title
        Title; it is escaped too.
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
    """Chart of scores as dots with intervals, and reference lines.

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
        hovertemplate="%{y}: %{x:.0%}<extra></extra>",
    )  # fmt: skip
    chart = figure([dots], title=title, height=130 + 34 * len(names), showlegend=False)
    lines = (
        (chance, "chance", "dot", "top left"),
        (majority, "largest class", "dash", "top right"),
        (svm, "SVM", "dashdot", "bottom right"),
    )
    for place, words, dash, side in lines:
        if place is not None:
            if place > 0.85 * highest:
                side = side.replace("right", "left")  # otherwise it would leave the chart
            chart.add_vline(
                x=place, line_dash=dash, line_color=LINE, annotation_text=words, annotation_position=side
            )
    chart.update_yaxes(automargin=True, type="category", range=[len(names) - 0.4, -0.8])
    return chart.update_xaxes(range=[0, highest], tickformat=".0%")

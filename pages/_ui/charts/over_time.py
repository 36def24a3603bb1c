"""A clip over time: spectrogram, attention, waveform and emotions, one below the other, on one time axis."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import plotly.graph_objects as go

from pages._ui.charts.base import DOT, figure
from pages._ui.charts.sound import COLUMNS, LEFT
from pages._ui.shell.style import colours

__all__ = ["attention", "stacked", "timeline"]

TOP, BELOW, GAP, LEGEND = 40, 48, 14, 64  # px: title, time axis, space between charts, two lines of legend


def stacked(charts: Sequence[go.Figure], *, title: str) -> go.Figure:
    """Several charts over the same time as one: the same margins, one time axis, one zoom.

    Parameters
    ----------
    charts
        Charts over time, from top to bottom. The time axis is that of the first one.
    title
        Title of the whole.
    """
    legend = LEGEND if any(trace.showlegend for chart in charts for trace in chart.data) else 0
    room = sum(chart.layout.height for chart in charts) + GAP * (len(charts) - 1)
    whole = figure(
        [], title=title, alt=" ".join(chart.layout.meta["alt"] for chart in charts), left=LEFT,
        height=room + TOP + BELOW + legend, dragmode="zoom", margin_b=BELOW + legend,
        legend={"orientation": "h", "y": 0, "yref": "container", "yanchor": "bottom", "x": 0},
    )  # fmt: skip
    above = room
    for number, chart in enumerate(charts, start=1):
        low, high = (above - chart.layout.height) / room, above / room
        above -= chart.layout.height + GAP
        for trace in chart.data:
            trace.update(xaxis="x", yaxis=f"y{number}")
            if trace.type == "heatmap":
                trace.colorbar.update(y=(low + high) / 2, len=high - low)
            whole.add_trace(trace)
        own = chart.layout.yaxis.to_plotly_json()
        axis = own | {"domain": [max(low, 0), min(high, 1)], "anchor": "x", "fixedrange": True}
        whole.update_layout({f"yaxis{number}": axis})
        for shape in chart.layout.shapes:
            whole.add_shape(shape.update(yref=f"y{number}"))
    time = charts[0].layout.xaxis.to_plotly_json()
    return whole.update_layout(xaxis=time | {"anchor": f"y{len(charts)}"})


def attention(windows: Sequence, *, length: float, window_seconds: float, height: int = 120) -> go.Figure:
    """Chart of the attention weight over time, 1 on average. Where windows overlap, their mean is shown.

    Parameters
    ----------
    windows
        Windows with attention, as in `mer.inference.predictor.Prediction`.
    length
        Length of the clip in s.
    window_seconds
        Length of a window in s.
    height
        Height in pixels.
    """
    seconds = np.arange(0, length, max(length / COLUMNS, 0.05))
    total, seen = np.zeros(len(seconds)), np.zeros(len(seconds))
    for window in windows:
        inside = (seconds >= window.start) & (seconds <= window.end)
        weights = np.array(window.attention) * len(window.attention)
        part = ((seconds[inside] - window.start) / window_seconds * len(weights)).astype(int)
        total[inside] += weights[np.minimum(part, len(weights) - 1)]
        seen[inside] += 1
    shown = go.Scatter(
        x=seconds.round(2), y=(total / np.maximum(seen, 1)).round(3), line_shape="hv", fill="tozeroy",
        line={"width": 1, "color": DOT}, showlegend=False,
        hovertemplate="%{x:.1f} s: %{y:.2f}<extra></extra>",
    )  # fmt: skip
    strongest = seconds[(total / np.maximum(seen, 1)).argmax()]
    alt = f"Attention over time, largest at {strongest:.1f} s."
    chart = figure([shown], title="Attention over time", alt=alt, height=height, left=LEFT)
    chart.add_hline(y=1, line_dash="dot", line_width=1, line_color="#888888")
    chart.update_xaxes(title="time (s)", range=[0, length])
    return chart.update_yaxes(title="attention", rangemode="tozero", nticks=3)


def timeline(windows: Sequence, *, height: int = 220) -> go.Figure:
    """Probabilities over time as a stacked area, one point at the middle of each window.

    A point's `customdata` is the number of its window.
    """
    middles = [round((window.start + window.end) / 2, 2) for window in windows]
    names = list(windows[0].probabilities)
    tints = colours(names)
    spans = [f"{window.start:g} to {window.end:g} s" for window in windows]
    areas = [
        go.Scatter(
            x=middles,
            y=[window.probabilities[name] for window in windows],
            name=name,
            stackgroup="one",
            mode="lines+markers",
            line={"color": tints[name], "width": 1},
            marker={"size": 5},
            showlegend=True,
            customdata=list(range(len(windows))),
            text=spans,
            hovertemplate="%{fullData.name}: %{y:.0%}, %{text}<extra></extra>",
        )
        for name in names
    ]
    best = [max(window.probabilities, key=window.probabilities.get) for window in windows]
    parts = [
        (name, list(part)) for name, part in groupby(zip(best, windows, strict=True), lambda pair: pair[0])
    ]
    said = [f"{name} {part[0][1].start:g} to {part[-1][1].end:g} s" for name, part in parts]
    chart = figure(
        areas, title="Emotion over time", alt=f"Most probable over time: {', '.join(said)}.", height=height,
        left=LEFT,
    )  # fmt: skip
    chart.update_xaxes(title="time (s)", range=[0, windows[-1].end])
    return chart.update_yaxes(tickformat=".0%", range=[0, 1], title="probability")

"""Reliability diagrams: how sure a network is of its answers against how often it is right."""

from typing import Any

import plotly.graph_objects as go

from pages._ui.charts.base import DOT, LINE, figure
from pages._ui.shell.style import counted, percent

__all__ = ["in_words", "reliability"]


def reliability(calibration: dict[str, Any], *, title: str, height: int = 380) -> go.Figure:
    """A dot for each range of confidence, as large as it has clips; on the dashed line words are kept."""
    bins = calibration["bins"]
    most = max(row["count"] for row in bins)
    about = [
        f"{counted(row['count'], 'clip')} of {percent(row['low'])} to {percent(row['high'])} confidence: "
        f"{percent(row['accuracy'])} right"
        for row in bins
    ]
    dots = go.Scatter(
        x=[row["confidence"] for row in bins], y=[row["accuracy"] for row in bins], mode="lines+markers",
        marker={"color": DOT, "size": [8 + 24 * (row["count"] / most) ** 0.5 for row in bins]},
        line={"color": DOT, "width": 1}, customdata=about, hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip
    right = go.Scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"dash": "dash", "color": LINE}, hoverinfo="skip"
    )
    chart = figure([right, dots], title=title, height=height, showlegend=False, dragmode=False)
    chart.update_xaxes(title="probability of the predicted class", range=[0, 1], dtick=0.2, tickformat=".0%")
    return chart.update_yaxes(title="accuracy", range=[-0.03, 1.05], tickformat=".0%")


def in_words(calibration: dict[str, Any]) -> str:
    """Whether it is too sure of itself, in a sentence."""
    bins, error = calibration["bins"], calibration["error"]
    clips = sum(row["count"] for row in bins)
    lead = sum(row["count"] * (row["confidence"] - row["accuracy"]) for row in bins) / clips
    tendency = "overconfident" if lead > 0 else "underconfident"
    gap = f"Probability and accuracy differ by {100 * error:.0f} percentage points on average"
    if error < 0.05:
        return f"{gap}: well calibrated."
    return f"{gap}: {tendency}."

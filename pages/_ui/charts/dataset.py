"""Charts of a data set: clips per class, and durations."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from pages._ui.charts.base import figure
from pages._ui.shell.style import bilingual, colours

__all__ = ["balance", "lengths"]


def balance(counts: Mapping[str, int]) -> go.Figure:
    """Clips per class."""
    names, tints = list(counts)[::-1], colours(counts)
    bars = go.Bar(
        x=[counts[name] for name in names], y=[bilingual(name) for name in names], orientation="h",
        marker_color=[tints[name] for name in names], text=[counts[name] for name in names],
        hovertemplate="%{y}: %{x} clips<extra></extra>",
    )  # fmt: skip
    chart = figure([bars], title="Clips per class", height=260, left=130)
    return chart.update_xaxes(title="clips")


def lengths(seconds: Sequence[float]) -> go.Figure:
    """Histogram of the clips' durations in s."""
    bars = go.Histogram(
        x=list(seconds), nbinsx=30, marker_color="#6B7C93",
        hovertemplate="%{x} s: %{y} clips<extra></extra>",
    )  # fmt: skip
    chart = figure([bars], title="Durations", height=260, left=48, bargap=0.05)
    chart.update_xaxes(title="duration (s)", rangemode="tozero")
    return chart.update_yaxes(title="clips")

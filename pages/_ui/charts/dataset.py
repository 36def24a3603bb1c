"""Charts of a data set: clips per class, and durations."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from pages._ui.charts.base import figure
from pages._ui.shell.style import bilingual, colours, counted

__all__ = ["balance", "lengths"]


def balance(counts: Mapping[str, int]) -> go.Figure:
    """Clips per class."""
    names, tints = list(counts)[::-1], colours(counts)
    bars = go.Bar(
        x=[counts[name] for name in names], y=[bilingual(name) for name in names], orientation="h",
        marker_color=[tints[name] for name in names], text=[counts[name] for name in names],
        textposition="outside", cliponaxis=False,
        hovertemplate="%{y}: %{x} clips<extra></extra>",
    )  # fmt: skip
    alt = "Clips per class: " + ", ".join(f"{name} {count}" for name, count in counts.items())
    chart = figure([bars], title="Clips per class", alt=alt, height=260, left=130)
    chart.update_layout(margin_r=44)
    return chart.update_xaxes(title="clips")


def lengths(seconds: Sequence[float]) -> go.Figure:
    """Histogram of the clips' durations in s."""
    bars = go.Histogram(
        x=list(seconds), nbinsx=30, marker_color="#6B7C93",
        hovertemplate="%{x} s: %{y} clips<extra></extra>",
    )  # fmt: skip
    alt = (
        f"Durations of {counted(len(seconds), 'clip')}: {min(seconds):.1f} to {max(seconds):.1f} s, median "
        f"{np.median(seconds):.1f} s"
    )
    chart = figure([bars], title="Durations", alt=alt, height=260, left=48, bargap=0.05)
    chart.update_xaxes(title="duration (s)", rangemode="tozero")
    return chart.update_yaxes(title="clips")

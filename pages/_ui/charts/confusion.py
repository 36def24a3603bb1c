"""Confusion matrices and reliability diagrams, each with a summary in words."""

from collections.abc import Sequence
from html import unescape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from pages._ui.charts.base import DOT, LINE, figure, heatmap
from pages._ui.shell.style import counted, percent

__all__ = ["cell_of", "in_words", "matrix", "most_confused", "reliability", "worst_cell"]


def matrix(
    confusion: Sequence[Sequence[int]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    shares: bool,
    title: str,
    height: int = 380,
) -> go.Figure:
    """Chart of a confusion matrix.

    Parameters
    ----------
    confusion
        Counts of clips: rows true, columns predicted.
    rows, columns
        Names of the classes.
    shares
        Show shares of each row instead of counts.
    title
        Title of the chart.
    height
        Height in pixels.
    """
    counts = np.array(confusion)
    part = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shown = part if shares else counts
    words = [[f"{v:.0%}" if shares else f"{v:d}" for v in row] for row in shown]
    about = [
        [f"{true} predicted as {said}: {counts[i, j]} of {counts[i].sum()}" for j, said in enumerate(columns)]
        for i, true in enumerate(rows)
    ]
    right = sum(counts[i, i] for i in range(len(rows)))
    chart = heatmap(
        shown, rows=rows, columns=columns, words=words, about=about, highest=1 if shares else None,
        colorbar={"tickformat": ".0%"} if shares else {"title": "clips"}, title=title, height=height,
        clickmode="event+select",
        alt=f"Confusion matrix of {title}: {right} of {counted(int(counts.sum()), 'clip')} right. "
        f"{most_confused(confusion, rows)}",
    )  # fmt: skip
    chart.update_xaxes(title="predicted")
    return chart.update_yaxes(title="true")


def cell_of(picked: dict) -> tuple[str, str] | None:
    """The clicked cell as (true, predicted), from a chart's selection; None without a click."""
    points = picked["selection"]["points"]
    return (unescape(points[0]["y"]), unescape(points[0]["x"])) if points else None


def worst_cell(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> tuple[int, int] | None:
    """Row and column of the largest cell off the diagonal, by share of its row; None without a mistake."""
    counts = np.array(confusion)
    part = (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))[:, : len(classes)]
    np.fill_diagonal(part, 0)
    i, j = np.unravel_index(part.argmax(), part.shape)
    return (int(i), int(j)) if part[i, j] else None


def most_confused(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    """The worst cell in words: "Most confused: Devotional as Sad, 9 of 24."."""
    cell = worst_cell(confusion, classes)
    if cell is None:
        return "No clip was misclassified."
    i, j = cell
    return f"Most confused: {classes[i]} as {classes[j]}, {confusion[i][j]} of {sum(confusion[i])}."


def reliability(calibration: dict[str, Any], *, title: str, height: int = 380) -> go.Figure:
    """Chart of a reliability diagram: a dot for each range of confidence, and a dashed line if calibrated.

    Parameters
    ----------
    calibration
        Error and bins, as `mer.metrics.calibration.calibration` returns them.
    title
        Title of the chart.
    height
        Height in pixels.
    """
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
    chart = figure(
        [right, dots], title=title, alt=f"Reliability of {title}. {in_words(calibration)}", height=height,
        showlegend=False,
    )  # fmt: skip
    chart.update_xaxes(title="probability of the predicted class", range=[0, 1], dtick=0.2, tickformat=".0%")
    return chart.update_yaxes(title="accuracy", range=[-0.03, 1.05], tickformat=".0%")


def in_words(calibration: dict[str, Any]) -> str:
    """Calibration error and tendency (over- or underconfident) in a sentence."""
    bins, error = calibration["bins"], calibration["error"]
    clips = sum(row["count"] for row in bins)
    lead = sum(row["count"] * (row["confidence"] - row["accuracy"]) for row in bins) / clips
    tendency = "overconfident" if lead > 0 else "underconfident"
    gap = f"Probability and accuracy differ by {100 * error:.0f} percentage points on average"
    if error < 0.05:
        return f"{gap}: well calibrated."
    return f"{gap}: {tendency}."

"""Maps of test clips, and the similarity of networks' embeddings."""

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from mer.runs.outcomes import kept_folder
from mer.runs.run import Run
from mer.runs.store import RunStore
from mer.utils.files import home as mer_home
from pages._ui.cached.results import clip_path, predictions
from pages._ui.cached.runs import all_runs
from pages._ui.charts.base import figure, heatmap
from pages._ui.shell.style import RUN_COLOURS, colours, counted, titled
from pages._ui.shell.turns import in_turn

__all__ = ["COLOUR_BY", "alignments", "by_embeddings", "map_of", "places", "tints"]

COLOUR_BY = ("emotion", "taken for", "right or wrong", "network")
LEAST = 1e-3  # smaller probabilities are raised to it, so that tiny differences do not matter
RIGHT, WRONG = "#4477AA", "#EE6677"
SHAPES = ("circle", "square", "diamond", "triangle-up", "star", "triangle-down", "pentagon", "hexagon")
Point = tuple[Run, dict[str, Any]]


def features(run: Run) -> np.ndarray:
    """Embeddings of a run's test clips, shape (clips, features). Raises RunError and DataError."""
    return _features(str(mer_home()), run.id)


@st.cache_data(max_entries=8, show_spinner="Computing embeddings …")
def _features(home: str, run_id: str) -> np.ndarray:
    from mer.inference.embedding_map import clip_embeddings  # torch, a few seconds

    run = next(run for run in all_runs() if run.id == run_id)
    folder = kept_folder(RunStore.open(), run, "checkpoint")
    paths = [clip_path(run, row["clip"]) for row in predictions(run)]
    with in_turn():
        return clip_embeddings(folder, paths)


def by_embeddings(runs: Sequence[Run]) -> bool:
    """True if the map shows embeddings.

    Several networks, and the members of an ensemble, have only the dimensions of their predictions in common.
    """
    return len(runs) == 1 and not runs[0].members


def places(runs: Sequence[Run]) -> np.ndarray:
    """Position of each test clip of each run on the map, shape (runs * clips, 2)."""
    return _places(str(mer_home()), tuple(run.id for run in runs))


@st.cache_data(max_entries=16, show_spinner="Drawing the map …")
def _places(home: str, run_ids: tuple[str, ...]) -> np.ndarray:
    """From the embeddings of one network, or from predictions."""
    from mer.inference.embedding_map import on_a_map

    runs = [run for run_id in run_ids for run in all_runs() if run.id == run_id]
    if by_embeddings(runs):
        return on_a_map(features(runs[0]))
    answers = [list(row["probabilities"].values()) for run in runs for row in predictions(run)]
    return on_a_map(np.log(np.maximum(answers, LEAST)))


def tints(points: Sequence[Point], by: str) -> tuple[list[str], dict[str, str]]:
    """The category of each point, and the colour of each category."""
    if by == "right or wrong":
        names = ["right" if row["predicted"] == row["label"] else "wrong" for _, row in points]
        return names, {"right": RIGHT, "wrong": WRONG}
    if by == "network":
        names = [titled(run) for run, _ in points]
        return names, dict(zip(dict.fromkeys(names), RUN_COLOURS, strict=False))
    names = [row["label" if by == "emotion" else "predicted"] for _, row in points]
    return names, colours(points[0][1]["probabilities"])


def map_of(spots: np.ndarray, points: Sequence[Point], by: str) -> go.Figure:
    """Chart of the map, with a colour and a shape for each category. Wrong predictions are hollow.

    Parameters
    ----------
    spots
        Positions of the points, shape (points, 2).
    points
        Run and prediction of each point.
    by
        The category: one of `COLOUR_BY`.
    """
    names, palette = tints(points, by)
    traces = []
    for (name, colour), shape in zip(palette.items(), cycle(SHAPES), strict=False):
        inside = [number for number, there in enumerate(names) if there == name]
        rows = [points[number][1] for number in inside]
        marker = {"color": colour, "size": 10, "line": {"color": colour, "width": 2}}
        own = marker | {
            "symbol": [shape if row["predicted"] == row["label"] else f"{shape}-open" for row in rows]
        }
        shared = {"mode": "markers", "name": name, "legendgroup": name}
        traces += [
            go.Scatter(
                x=spots[inside, 0], y=spots[inside, 1], customdata=inside, marker=own,
                text=[f"{row['clip']}: {row['label']}, predicted {row['predicted']}" for row in rows],
                hovertemplate="%{text}<extra></extra>", showlegend=False,
                unselected={"marker": {"opacity": 0.5}}, **shared,
            ),
            # A legend copies the first point, which may be hollow; this one is filled.
            go.Scatter(x=[None], y=[None], customdata=[], marker=marker | {"symbol": [shape]}, **shared),
        ]  # fmt: skip
    right = sum(row["predicted"] == row["label"] for _, row in points)
    by_name = ", ".join(f"{name} {names.count(name)}" for name in palette if name in names)
    chart = figure(
        traces, title="", height=520, clickmode="event+select",
        alt=f"Map of {counted(len(points), 'point')}, {right} of them right. By {by}: {by_name}.",
    )  # fmt: skip
    chart.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"}, margin={"t": 40, "b": 8})
    bare = {"showticklabels": False, "showgrid": False, "zeroline": False}
    chart.update_xaxes(**bare)
    return chart.update_yaxes(**bare, scaleanchor="x")


def alignments(runs: Sequence[Run]) -> go.Figure:
    """Similarity of the embeddings of each pair of networks (linear CKA, 0 to 1)."""
    from mer.inference.embedding_map import alignment

    names, seen = [titled(run) for run in runs], [features(run) for run in runs]
    shares = np.array([[alignment(one, other) for other in seen] for one in seen])
    pairs = [
        f"{one} and {other} {shares[i][j]:.2f}"
        for i, one in enumerate(names)
        for j, other in enumerate(names[:i])
    ]
    return heatmap(
        shares, rows=names, columns=names, words=[[f"{share:.2f}" for share in row] for row in shares],
        title="Similarity of embeddings (CKA)", height=160 + 60 * len(runs),
        alt=f"Similarity of embeddings: {', '.join(pairs)}",
    )  # fmt: skip

"""Learning curves of one or several runs: loss and accuracy, training dashed, validation solid.

Drawn with Vega-Lite, whose chart keeps its zoom when its data change. `st.plotly_chart` would make a new
chart.
"""

from collections.abc import Sequence

import pyarrow as pa
import streamlit as st

from mer.metrics.score import Score
from mer.metrics.scores import wilson_interval
from mer.runs.run import ACTIVE, Run
from pages._ui.cached.runs import history
from pages._ui.shell.style import RUN_COLOURS, counted, percent, titled

__all__ = ["CURVES", "best_and_last", "has_curves", "read_curves", "show_curves"]

CURVES = len(RUN_COLOURS)  # runs in one chart, each with its own colour
METRICS = {
    "epoch": ("train_loss", "validation_loss", "train_accuracy", "validation_accuracy"),
    "step": ("step_loss", "validation_loss", "step_accuracy", "validation_accuracy"),
    "strength": ("inner_loss", "inner_accuracy", "validation_loss", "validation_accuracy"),
}
SHAPES = ["circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "triangle-left"]
TOOLTIP = (("run", "nominal"), ("part", "nominal"), ("x", "quantitative"), ("y", "quantitative"))
POINTS = 400  # a curve on a screen needs no more
SMOOTH = 0.9  # weight of the previous mean in the running mean of single steps

Points = list[tuple[float, float]]


def has_curves(run: Run) -> bool:
    """False for ensembles, and for cross-validations, whose folds have them."""
    return not run.members and not run.spec.get("config", {}).get("split", {}).get("folds")


def read_curves(run: Run, by: str) -> dict[str, Points]:
    """The points of each curve by "epoch" or "step"; validation lies at the last step of its epoch.

    For a run with a solved head: the points of the inner folds by strength of regularisation.
    """
    if run.solved:
        return _by_strength(run)
    found = {metric: history(run, metric) for metric in METRICS[by]}
    found = {metric: [(float(x), y) for x, y in points if x > 0] for metric, points in found.items()}
    if by == "step":
        epochs = run.spec.get("config", {}).get("train", {}).get("epochs")
        total = run.steps or (found["step_loss"][-1][0] if found["step_loss"] else None)
        steps = total / epochs if total and epochs else 1.0
        for metric in ("validation_loss", "validation_accuracy"):
            found[metric] = [(x * steps, y) for x, y in found[metric]]
        for metric in ("step_loss", "step_accuracy"):
            found[metric] = _smooth(found[metric])
    return found


def _by_strength(run: Run) -> dict[str, Points]:
    strengths = dict(history(run, "strength"))
    return {
        metric: [(strengths[number], y) for number, y in history(run, metric) if number in strengths]
        for metric in METRICS["strength"]
    }


def _smooth(points: Points) -> Points:
    """A running mean, since single batches vary; thinned to what a screen shows, with the newest point."""
    smoothed, mean = [], None
    for x, y in points:
        mean = y if mean is None else SMOOTH * mean + (1 - SMOOTH) * y
        smoothed.append((x, round(mean, 4)))
    every = max(1, len(smoothed) // POINTS)
    return smoothed[::-1][::every][::-1]


def best_and_last(run: Run, points: Points) -> str:
    """Validation accuracy, with interval, of the best epoch (lowest validation loss) and the last."""
    best = int(run.metrics.get("best_epoch", 0))
    if not points:
        return ""
    if run.solved:
        return f"strength {run.metrics.get('best_strength', 0):g}: {_share(run, points[-1][1])}"
    first = f"best epoch {best}: {_share(run, points[best - 1][1])}, " if 0 < best <= len(points) else ""
    return f"{first}last epoch {len(points)}: {_share(run, points[-1][1])}"


def _share(run: Run, accuracy: float) -> str:
    """Accuracy with Wilson's interval; it assumes independent clips, so the true interval is wider."""
    if not run.validation_clips:
        return percent(accuracy)
    return str(Score(accuracy, *wilson_interval(accuracy, run.validation_clips)))


def show_curves(runs: Sequence[Run], read: dict[str, dict[str, Points]], by: str, *, key: str) -> None:
    """Show loss and accuracy side by side. Runs with a solved head get charts of their own.

    Parameters
    ----------
    runs
        The runs.
    read
        The curves of each run by its id, as `read_curves` returns them.
    by
        "epoch" or "step".
    key
        Prefix of the charts' keys.
    """
    solved = [run for run in runs if run.solved]
    if len(solved) < len(runs):
        _show([run for run in runs if not run.solved], read, by, key)
        st.caption("Dashed: training. Solid: validation. Ring: best epoch. Dotted line: chance.")
    if solved:
        _show(solved, read, "strength", key)
        st.caption(
            "Solved heads: clips held out in inner folds. Ring: the chosen strength of regularisation."
        )


def _show(runs: Sequence[Run], read: dict[str, dict[str, Points]], by: str, key: str) -> None:
    """Show the charts of loss and accuracy by "epoch", "step" or "strength"."""
    for column, what in zip(st.columns(2), ("loss", "accuracy"), strict=True):
        column.vega_lite_chart(
            _table(runs, read, what, by),
            _spec(runs, what, by),
            key=f"{key} {what} {by}",
            alt=_in_words(runs, read, what, by),
            height=350 + 26 * len(runs),
            on_select="rerun",  # without it, new data would reset the zoom
            selection_mode="zoom",
        )


def _in_words(runs: Sequence[Run], read: dict[str, dict[str, Points]], what: str, by: str) -> str:
    """The last point of each curve that was not trained on, for those who cannot see the chart.

    Other words would make another chart and lose the zoom, so they are the same as long as a run works.
    """
    kept, form = "inner" if by == "strength" else "validation", ".0%" if what == "accuracy" else ".2f"
    curves = [(titled(run), read[run.id][f"{kept}_{what}"]) for run in runs]
    last = [f"{name}: {points[-1][1]:{form}} at {points[-1][0]:g}" for name, points in curves if points]
    title = f"{what.capitalize()} by {by} of {counted(len(runs), 'run')}"
    if any(run.status in ACTIVE for run in runs):
        return f"{title}, growing while the run works."
    return f"{title}. Last points: {'; '.join(last) or 'none'}."


def _table(runs: Sequence[Run], read: dict[str, dict[str, Points]], what: str, by: str) -> pa.Table:
    """Table of all points, one per row."""
    kept = "inner" if by == "strength" else "validation"
    train = f"{'train' if by == 'epoch' else 'step'}_{what}"
    rows = []
    for run in runs:
        held_out, best = read[run.id][f"{kept}_{what}"], int(run.metrics.get("best_epoch", 0))
        rings = [held_out[best - 1]] if 0 < best <= len(held_out) else []
        for kind, points in (
            ("training", read[run.id].get(train, [])),
            ("validation", held_out),
            ("best", rings),
        ):
            rows += [(x, y, titled(run), kind) for x, y in points]
    columns = zip(*rows, strict=True) if rows else ((), (), (), ())
    return pa.table(dict(zip(("x", "y", "run", "part"), map(list, columns), strict=True)))


def _spec(runs: Sequence[Run], what: str, by: str) -> dict:
    """The Vega-Lite chart without data; it must not depend on them, or zoom would be lost."""
    names = [titled(run) for run in runs]
    classes = next((run.classes for run in runs if run.classes), None)
    dash = {"field": "part", "type": "nominal", "legend": None}
    dash["scale"] = {"domain": ["training", "validation"], "range": [[6, 4], [1, 0]]}
    shape = {"field": "run", "scale": {"domain": names, "range": SHAPES[: len(names)]}}
    return {
        "title": f"{what.capitalize()} by {by}",
        "params": [{"name": "zoom", "select": "interval", "bind": "scales", "views": ["curves"]}],
        "encoding": _encoding(names, what, by),
        "layer": [
            {
                "name": "curves",
                "transform": [{"filter": "datum.part != 'best'"}],
                "mark": {"type": "line", "strokeWidth": 2, "clip": True},
                "encoding": {"strokeDash": dash},
            },
            {
                "transform": [{"filter": "datum.part == 'validation'"}],
                "mark": {"type": "point", "filled": True, "size": 36, "clip": True},
                "encoding": {"shape": shape},
            },
            {
                "transform": [{"filter": "datum.part == 'best'"}],
                "mark": {"type": "point", "size": 240, "strokeWidth": 2, "clip": True},
            },
            *([_chance(classes)] if what == "accuracy" and classes else []),
        ],
    }


def _encoding(names: Sequence[str], what: str, by: str) -> dict:
    """The encoding that all layers share: axes, a colour per run, and tooltips."""
    along = {"type": "log", "nice": False} if by == "strength" else {"padding": 10, "nice": False}
    share = {"scale": {"domain": [0, 1], "padding": 10, "nice": False}, "axis": {"format": ".0%"}}
    scale = {"domain": list(names), "range": list(RUN_COLOURS[: len(names)])}
    legend = {"orient": "bottom", "columns": 1, "title": None, "labelLimit": 400, "labelFontSize": 12}
    return {
        "x": {"field": "x", "type": "quantitative", "title": by, "scale": along},
        "y": {"field": "y", "type": "quantitative", "title": what} | (share if what == "accuracy" else {}),
        "color": {"field": "run", "type": "nominal", "scale": scale, "legend": legend},
        "tooltip": [{"field": field, "type": kind} for field, kind in TOOLTIP],
    }


def _chance(classes: int) -> dict:
    """A dotted line at the accuracy of chance."""
    return {
        "data": {"values": [{"y": 1 / classes}]},
        "mark": {"type": "rule", "strokeDash": [2, 3], "color": "#D55E00"},
        "encoding": {"x": None, "color": None, "tooltip": {"value": f"chance: {1 / classes:.0%}"}},
    }

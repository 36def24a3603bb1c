"""Learning curves of one or several runs: loss and accuracy, training dashed, validation solid."""

from collections.abc import Sequence

from mer.runs import Run
from pages._ui.chart import Drawn, layout
from pages._ui.data import history
from pages._ui.style import RUN_COLOURS, RUN_MARKERS, percent

__all__ = ["best_and_last", "curves", "read_curves"]

METRICS = {
    "epoch": ("train_loss", "validation_loss", "train_accuracy", "validation_accuracy"),
    "step": ("step_loss", "validation_loss", "step_accuracy", "validation_accuracy"),
}
POINTS = 400  # a curve on a screen needs no more
SMOOTH = 0.9  # share of the past in the running mean of single steps

Points = list[tuple[float, float]]


def read_curves(run: Run, by: str) -> dict[str, Points]:
    """The points of each curve by "epoch" or "step"; validation is put at the step that ended its epoch."""
    found = {metric: history(run, metric) for metric in METRICS[by]}
    found = {metric: [(float(x), y) for x, y in points if x > 0] for metric, points in found.items()}
    if by == "step":
        steps = _steps_per_epoch(run, found["step_loss"])
        for metric in ("validation_loss", "validation_accuracy"):
            found[metric] = [(x * steps, y) for x, y in found[metric]]
        for metric in ("step_loss", "step_accuracy"):
            found[metric] = _smooth(found[metric])
    return found


def _steps_per_epoch(run: Run, steps: Points) -> float:
    progress, epochs = run.metrics.get("progress"), run.spec.get("config", {}).get("train", {}).get("epochs")
    return steps[-1][0] / progress / epochs if steps and progress and epochs else 1.0


def _smooth(points: Points) -> Points:
    """A running mean, since single batches jump; thinned to what a screen shows, the newest kept."""
    smoothed, mean = [], None
    for x, y in points:
        mean = y if mean is None else SMOOTH * mean + (1 - SMOOTH) * y
        smoothed.append((x, round(mean, 4)))
    every = max(1, len(smoothed) // POINTS)
    return smoothed[::-1][::every][::-1]


def best_and_last(run: Run, points: Points) -> str:
    """The best epoch (lowest validation loss) beside the last, by their validation accuracy."""
    best = int(run.metrics.get("best_epoch", 0))
    if not points:
        return ""
    first = f"best epoch {best}: {percent(points[best - 1][1])}, " if 0 < best <= len(points) else ""
    return f"{first}last epoch {len(points)}: {percent(points[-1][1])}"


def curves(runs: Sequence[Run], read: dict[str, dict[str, Points]], what: str, by: str) -> Drawn:
    """The figure of `what`, "loss" or "accuracy"; `read` holds what `read_curves` gave for each run's id."""
    traces = []
    for number, run in enumerate(runs):
        colour = RUN_COLOURS[number % len(RUN_COLOURS)]
        marker = RUN_MARKERS[number % len(RUN_MARKERS)]
        train = read[run.id][f"{'train' if by == 'epoch' else 'step'}_{what}"]
        held_out = read[run.id][f"validation_{what}"]
        name = f"{run.name} · {run.id[:8]}"
        traces += _line(train, f"{name}, training", colour, "dash")
        traces += _line(held_out, f"{name}, validation", colour, "solid", marker)
        traces += _best(run, held_out, colour, name)
    heights = {"tickformat": ".0%", "range": [0, 1.02]} if what == "accuracy" else {"rangemode": "tozero"}
    more = {
        "legend": {"orientation": "h", "y": -0.2},
        "uirevision": f"{what} {by}",  # keeps zoom and selection while the data change
        "xaxis": {"title": {"text": by}},
        "yaxis": {"title": {"text": what}} | heights,
    }
    return Drawn(data=traces, layout=layout(f"{what.capitalize()} by {by}", 360, 56) | more)


def _line(points: Points, name: str, colour: str, dash: str, marker: str = "") -> list[dict]:
    if not points:
        return []
    x, y = zip(*points, strict=True)
    line = {"type": "scatter", "x": x, "y": y, "name": name, "mode": "lines"}
    line["line"] = {"color": colour, "dash": dash, "width": 2}
    if marker:
        line |= {"mode": "lines+markers", "marker": {"symbol": marker, "size": 6}}
    return [line]


def _best(run: Run, held_out: Points, colour: str, name: str) -> list[dict]:
    """A ring around the best epoch, the one with the lowest validation loss."""
    epoch = int(run.metrics.get("best_epoch", 0))
    if not 0 < epoch <= len(held_out):
        return []
    x, y = held_out[epoch - 1]
    ring = {"type": "scatter", "x": [x], "y": [y], "mode": "markers", "showlegend": False}
    ring["marker"] = {"symbol": "circle-open", "size": 15, "line": {"width": 2}, "color": colour}
    return [ring | {"hovertemplate": f"{name}: best epoch {epoch}<extra></extra>"}]

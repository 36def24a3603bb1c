"""The leaderboard: a table with intervals drawn in its cells, and a chart with reference lines."""

from typing import Any

import streamlit as st

from mer.metrics.score import Score
from mer.runs.run import Run
from mer.utils.progress import duration
from pages._ui.cached.results import SVM, SVM_TITLE, Tested, against
from pages._ui.cached.runs import history
from pages._ui.charts.base import draw, forest
from pages._ui.charts.curves import best_and_last
from pages._ui.shell.style import members_of, titled

__all__ = ["show_forest", "show_leaderboard"]

AGAINST = "against the highest"
UNSCROLLED = 20  # rows; a table up to this length is shown without scrolling


def leaderboard(group: Tested) -> list[dict[str, Any]]:
    """A row per run and one for the SVM, highest score first, then the largest class and chance.

    Each is compared with the highest, unless the test songs were in training.
    """
    figures, svm = group.runs[0].metrics, group.svm
    found = {run.id: (titled(run), Score.from_metrics(run.metrics), _more(run)) for run in group.runs}
    if svm:
        own = Score.from_metrics(svm.metrics, "svm_song_accuracy")
        found[SVM] = (SVM_TITLE, own, {"by clip": svm.metrics.get("svm_accuracy")})
    best, *others = sorted(found, key=lambda key: -found[key][1].value)
    rows = []
    for key in (best, *others):
        title, own, more = found[key]
        cells = _cells(own, figures.get("majority", 0)) | _rank(group, best, key)
        rows.append({"run": title} | cells | more)
    for name, key in (("always the largest class", "majority"), ("chance", "chance")):
        rows.append({"run": name, "accuracy by song": figures.get(key)})
    return rows


def _rank(group: Tested, best: str, key: str) -> dict[str, str]:
    """The cell that compares a run with the highest score; none if it has no rank."""
    if group.leaky:
        return {}
    return {AGAINST: "highest score" if key == best else against(group, best, key)}


def _cells(own: Score, majority: float) -> dict[str, Any]:
    """The cells of a score by song with its interval."""
    return {
        "accuracy by song": own.value,
        "low": own.low,
        "high": own.high,
        "95% interval": _bar(own, majority),
    }


def _more(run: Run) -> dict[str, Any]:
    """Further cells of a run."""
    m, train = run.metrics, run.spec.get("config", {}).get("train", {})
    return {
        "by clip": m.get("test_accuracy"),
        "macro-F1": m.get("test_macro_f1"),
        "kappa": m.get("test_kappa"),
        "calibration error": m.get("test_calibration_error"),
        "trained": {"head": "head", "classifier": "classifier", "last": "last stage", "none": "all"}.get(
            train.get("freeze"), ""
        ),
        "ensemble of": members_of(run),
        "epochs (validation)": best_and_last(run, history(run, "validation_accuracy")),
        "parameters (M)": _millions(m.get("parameters")),
        "trained (M)": _millions(m.get("trained_parameters")),
        "time": duration(run.worked) if run.ended else "",
        "songs": m.get("n_songs"),
        "clips": m.get("n_clips"),
    }


def _millions(count: float | None) -> float | None:
    return None if count is None else round(count / 1e6, 3)


def _bar(own: Score, majority: float) -> str:
    """A small SVG of score and interval from 0 to 100%, with a line at the largest class."""
    score, low, high = (round(100 * value) for value in own)
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="108" height="24" viewBox="-4 -3 108 24">'
        '<rect x="0" y="8" width="100" height="2" fill="#8884"/>'
        f'<rect x="{low}" y="6" width="{max(high - low, 1)}" height="6" rx="3" fill="#0072B2" opacity="0.5"/>'
        f'<circle cx="{score}" cy="9" r="4" fill="#0072B2"/>'
        f'<rect x="{round(100 * majority)}" y="1" width="1" height="16" fill="#D55E00"/></svg>'
    )
    return "data:image/svg+xml;utf8," + svg.replace("#", "%23").replace('"', "'")


def show_leaderboard(group: Tested) -> list[dict[str, Any]]:
    """The table; returns its rows."""
    rows = leaderboard(group)
    hidden = {"songs", "clips"} | (set() if any(run.members for run in group.runs) else {"ensemble of"})
    columns = {name: None for row in rows for name in row if name not in hidden}
    share = st.column_config.NumberColumn(format="percent", step=0.01)
    drawn = st.column_config.ImageColumn(width=140, help="From 0 to 100%. Vertical line: largest class")
    shares = dict.fromkeys(
        ("accuracy by song", "low", "high", "by clip", "macro-F1", "calibration error"), share
    )
    shares["kappa"] = st.column_config.NumberColumn(
        format="%.2f", help="Cohen's kappa: agreement beyond chance; 0 is none, 1 is perfect"
    )
    rounded = [  # the column would truncate instead: 66% for two thirds
        {name: round(cell, 2) if name in shares and cell is not None else cell for name, cell in row.items()}
        for row in rows
    ]
    sizes = {
        "parameters (M)": st.column_config.NumberColumn(help="All parameters of body and head, in millions"),
        "trained (M)": st.column_config.NumberColumn(help="Those that training changes, in millions"),
    }
    st.dataframe(
        rounded, hide_index=True, key=f"board {group.key}", placeholder="",
        height="content" if len(rows) <= UNSCROLLED else "auto",
        column_order=list(columns),
        column_config=shares | sizes | {"95% interval": drawn},
    )  # fmt: skip
    return rows


def show_forest(group: Tested) -> None:
    """Scores with intervals, and lines at chance, the largest class and the SVM."""
    m = group.runs[0].metrics
    names = [titled(run) for run in group.runs]
    chart = forest(
        names, [Score.from_metrics(run.metrics) for run in group.runs], chance=m.get("chance"),
        majority=m.get("majority"), svm=group.svm and group.svm.metrics["svm_song_accuracy"],
        title="Accuracy by song with 95% interval",
    )  # fmt: skip
    draw(chart, key="forest")

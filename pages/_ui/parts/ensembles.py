"""Agreement between runs as a heatmap, and a button that makes an ensemble of them."""

from collections.abc import Sequence

import plotly.graph_objects as go
import streamlit as st

from mer.metrics.predictions import agreement
from mer.models.card import MOST_MEMBERS
from mer.runs.run import Run
from mer.runs.store import RunStore
from pages._ui.cached.results import Tested, predictions
from pages._ui.charts.base import draw, heatmap
from pages._ui.shell.changes import join
from pages._ui.shell.links import chosen, remember
from pages._ui.shell.permission import button
from pages._ui.shell.style import percent, plain, song_score, titled

__all__ = ["alike", "show_joining"]

WEIGHTS = {"equal": "equal", "validation": "fitted to validation clips"}
MADE = "made an ensemble"


def show_joining(group: Tested) -> None:
    """Pairwise agreement of chosen runs, and the button that makes them an ensemble."""
    st.subheader("Agreement and ensembles")
    runs = {run.id: run for run in group.runs}
    single = [run.id for run in group.runs if not run.members]
    _show_made(group)
    names = {run_id: titled(run) for run_id, run in runs.items()}
    chosen("join", list(runs), default=single[:3], many=MOST_MEMBERS, what="run", called=names.__getitem__)
    picked = st.multiselect(
        "Runs", list(runs), format_func=names.__getitem__, key="join", max_selections=MOST_MEMBERS
    )
    remember("join", [run_id[:8] for run_id in picked])
    shown = [runs[run_id] for run_id in picked]
    if len(shown) < 2:
        st.info("Choose two or more runs to see how often they agree.")
        return
    rows = [predictions(run) for run in shown]
    found = agreement(rows, list(rows[0][0]["probabilities"]) if rows[0] else [])
    chart = alike(found, [run.id[:8] for run in shown])
    draw(chart, key="alike")
    st.caption(
        "Share of test clips with the same prediction, right or wrong. Averaging helps most when runs are "
        "equally good but make different mistakes. Runs that nearly always agree gain nothing."
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        how = st.segmented_control(
            "Weights", list(WEIGHTS), format_func=WEIGHTS.__getitem__, default="equal", key="weights",
            required=True,
        )  # fmt: skip
        if button("Make an ensemble of these", icon=":material/join:", key="make an ensemble"):
            _make(shown, how)


def alike(found: dict[str, list[list[float]]], names: Sequence[str]) -> go.Figure:
    """The result of `mer.metrics.predictions.agreement` as a heatmap."""
    shares, kappas = found["agreement"], found["kappa"]
    about = [
        [
            f"{one} and {other}: {percent(shares[i][j])} the same, kappa {kappas[i][j]:.2f}"
            for j, other in enumerate(names)
        ]
        for i, one in enumerate(names)
    ]
    pairs = [text for i, row in enumerate(about) for text in row[:i]]
    return heatmap(
        shares, rows=names, columns=names, words=[[percent(share) for share in row] for row in shares],
        about=about, colorbar={"tickformat": ".0%"}, title="Same prediction", height=150 + 34 * len(names),
        alt=f"Same prediction. {'; '.join(pairs)}.",
    )  # fmt: skip


def _make(runs: Sequence[Run], weights: str) -> None:
    """Make the ensemble, then rerun the page, which lists it."""
    with st.spinner("Making the ensemble …"):
        words = " ".join(run.id[:8] for run in runs)
        command = f"python -m mer ensemble {words} --weights {weights}"
        joined = join(RunStore.open(), [run.id for run in runs], weights=weights, command=command)
    st.session_state[MADE] = joined.run_id
    st.rerun()


def _show_made(group: Tested) -> None:
    """Score and rank of the ensemble that was just made."""
    places = {run.id: place for place, run in enumerate(group.runs, start=1)}
    made = st.session_state.get(MADE)
    if made in places:
        run = group.runs[places[made] - 1]
        rank = "" if group.leaky else f"; rank {places[made]} of {len(places)} above"
        st.success(
            f"{plain(titled(run))}: {song_score(run.metrics)}{rank}. You can choose it on Predict.",
            icon=":material/join:",
        )

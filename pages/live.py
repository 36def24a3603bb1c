"""Live: the state of each run, and its curves as they grow."""

from collections.abc import Callable

import streamlit as st

from mer.runs.run import ACTIVE, Run
from mer.runs.turns import in_order
from mer.utils.errors import MerError
from pages._ui.cached.runs import active_runs, all_runs
from pages._ui.charts.curves import CURVES, best_and_last, read_curves, show_curves
from pages._ui.frame import page
from pages._ui.parts.run_buttons import acted, log_tail, show_deleted, show_outcome
from pages._ui.parts.run_row import moving, show_run, states, when_curves_come
from pages._ui.shell.links import chosen, page_file, remember
from pages._ui.shell.permission import refusal, shown
from pages._ui.shell.style import plain, titled

POLL = 1.0  # s


def watch(picked: list[str], by: str, known: dict[str, str], ended: Callable[[str], Run | None]) -> None:
    """Show active and selected runs; rerun the whole page if the state of an active run changed.

    It is called every second while a run works or waits.

    Parameters
    ----------
    picked
        Ids of the runs whose curves are shown.
    by
        "step" or "epoch".
    known
        Status of each active run by its id, when the page was drawn.
    ended
        Returns a run by its id, as it was when the page was drawn.
    """
    active = active_runs()
    if acted() or states(active) != known:
        st.rerun()
    fresh = {run.id: run for run in active}
    for run in in_order(active):
        show_run(run)
    selected = [run for run_id in picked if (run := fresh.get(run_id) or ended(run_id))]
    for run in selected:
        if run.id not in fresh:
            show_run(run)
    if not selected:
        return
    read = {run.id: read_curves(run, by) for run in selected}
    if not any(points for found in read.values() for points in found.values()):
        if coming := [run for run in selected if moving([run])]:
            for run in in_order(coming):
                st.info(plain(f"{titled(run)}. {when_curves_come(run)}"), icon=":material/hourglass_top:")
        else:
            st.info(
                "These runs have no curves. For a cross-validation, choose one of its folds. Ensembles have "
                "no curves."
            )
        return
    show_curves(selected, read, by, key="live")
    summary = "; ".join(
        f"{plain(run.name)} `{run.id[:8]}` {best_and_last(run, read[run.id]['validation_accuracy'])}"
        for run in selected
        if read[run.id]["validation_accuracy"]
    )
    if summary:
        st.caption(
            "Where validation gets worse while training improves, the network overfits. Validation accuracy "
            f"by clip, with 95% interval: {summary}"
        )


def poll(picked: list[str], by: str, known: dict[str, str], ended: Callable[[str], Run | None]) -> None:
    """`watch`, with errors shown on the page.

    Parameters
    ----------
    picked, by, known, ended
        See `watch`.
    """
    try:
        watch(picked, by, known, ended)
    except MerError as error:
        st.error(plain(shown(str(error))))


with page("Live"):
    st.title("Live")
    show_outcome()
    runs = all_runs()
    if not runs:
        st.info("No runs yet. Launch one to see its curves here.", icon=":material/monitoring:")
        st.page_link(page_file("train"), label="Train a network", icon=":material/fitness_center:")
    else:
        names = {run.id: f"{titled(run)} · {run.status}" for run in runs}
        # From the same read as the names. If it were read again, a run that ended in between would be missed.
        active = [run for run in runs if run.status in ACTIVE]
        at_work = [run.id for run in in_order(active) if moving([run])]
        usual = at_work[:4] or [min(runs, key=lambda run: run.leaky).id]
        left, right = st.columns([4, 1])
        with left:
            chosen("run", list(names), default=usual, many=CURVES, what="run", called=names.__getitem__)
            picked = st.multiselect(
                "Curves of", list(names), format_func=names.__getitem__, key="run", max_selections=CURVES
            )
            remember("run", [run_id[:8] for run_id in picked])
        with right:
            chosen("by", ["step", "epoch"])
            by = st.segmented_control("By", ["step", "epoch"], key="by", required=True)
            remember("by", by)
        st.fragment(poll, run_every=POLL if moving(runs) else None)(
            picked, by, states(active), {run.id: run for run in runs}.get
        )
        if picked and not refusal() and st.toggle("Show the log", key="log"):
            run = next(run for run in runs if run.id == picked[0])
            st.code(log_tail(run), language=None, height=240)
    show_deleted()

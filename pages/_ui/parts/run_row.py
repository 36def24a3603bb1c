"""The state of runs: one row per run with status, progress, scores and buttons."""

import time
from collections.abc import Iterable

import streamlit as st

from mer.runs.run import ACTIVE, Run
from mer.runs.turns import likely_start, queue_before
from mer.utils.machine import slots
from mer.utils.progress import ProgressReport, duration
from pages._ui.cached.runs import active_runs, all_runs
from pages._ui.parts.run_buttons import run_buttons
from pages._ui.shell.permission import shown
from pages._ui.shell.style import STATUS, members_of, plain, run_score, run_standing

__all__ = ["moving", "progress_of", "show_run", "states", "when_curves_come"]


SOON = 5.0  # s; a shorter wait is not worth a figure


def moving(runs: Iterable[Run]) -> bool:
    """True while one of the runs has a process that works or waits."""
    return any(run.status in ACTIVE and run.status != "interrupted" for run in runs)


def states(runs: Iterable[Run]) -> dict[str, str]:
    """The status of each run by its id. If it changes, the whole page is drawn again."""
    return {run.id: run.status for run in runs}


def place_of(run: Run) -> str:
    """The place of a queued run in the queue, and when it is likely to start, in words."""
    before = len(queue_before(run, active_runs()))
    place = f"number {before + 1} in the queue" if before else "next in the queue"
    if run.elsewhere:
        return place
    seconds = likely_start(run, all_runs(), slots=slots(), now=time.time())
    if seconds is None:
        return f"{place}; the time of the runs before it is not known yet"
    return f"{place}, likely to start " + (f"in about {duration(seconds)}" if seconds > SOON else "soon")


def when_curves_come(run: Run) -> str:
    """What an active run without curves does now, and when its curves will come."""
    if run.status == "queued":
        return f"Queued: {place_of(run)}. Its curves come when it works."
    now = progress_of(run)[1]
    if run.solved:
        return (
            f"At work: {now}. Its head is solved for, not trained step by step, so no curve grows. When it "
            "is solved, loss and accuracy appear here for each strength of regularisation."
        )
    if run.spec.get("config", {}).get("train", {}).get("freeze") == "head":
        return (
            f"At work: {now}. The network is frozen, so its features are computed first, which takes most of "
            "the time. Then the curves of all epochs appear within seconds."
        )
    return f"At work: {now}. The curves begin with the first step of training."


def stage_of(run: Run) -> str:
    """The stage of a run before training or while waiting, in words; empty if it reports none."""
    text = run.tags.get("mer.stage", "")
    return str(ProgressReport.read(text)) if text else ""


def progress_of(run: Run) -> tuple[float, str]:
    """Share done, 0 to 1, and the progress in words; a cross-validation counts its folds."""
    config = run.spec.get("config", {})
    folds = config.get("split", {}).get("folds", 0)
    if folds and not run.parent:
        parts = [part for part in all_runs() if part.parent == run.id]
        done = sum(1.0 if part.status == "finished" else part.metrics.get("progress", 0) for part in parts)
        return done / folds, f"{sum(part.status == 'finished' for part in parts)} of {folds} folds finished"
    share, epochs = run.metrics.get("progress", 0.0), config.get("train", {}).get("epochs", 0)
    stage = stage_of(run)
    if run.status == "running" and (stage or not share):
        return share, stage or "preparing"
    left = f", {duration(run.metrics.get('seconds_left'))} left" if run.status == "running" else ""
    if run.solved:
        return share, stage or "fitting the head"
    return share, f"epoch {min(int(share * epochs) + 1, epochs)} of {epochs}{left}"


def show_run(run: Run) -> None:
    """One row: state, progress, scores so far, buttons."""
    icon, tint = STATUS[run.status]
    share, words = progress_of(run)
    with st.container(border=True):
        what, far, act = st.columns([4, 5, 2], vertical_alignment="center")
        with what:
            st.markdown(f":{tint}-badge[{icon} {run.status}] **{plain(run.name)}** · `{run.id[:8]}`")
            if run.leak:
                st.badge(run.leak, icon=":material/rule:", color="red")
        with far:
            if run.status == "finished":
                st.markdown(f"by song {run_score(run)}")
                st.caption(run_standing(run))
            elif run.status == "queued":
                st.markdown(plain(place_of(run)))
            else:
                st.progress(min(share, 1.0), text=plain(words))
            if run.waited and run.waited > SOON:
                st.caption(f"worked {duration(run.worked)}, after {duration(run.waited)} in the queue")
            if run.members:
                st.caption(f"an ensemble of {plain(members_of(run))}")
            if run.reason and run.status in ("failed", "stopped"):
                st.caption(plain(shown(run.reason)))
            elif run.status == "interrupted":
                st.caption("Its process ended unexpectedly (a crash or a shutdown). Resume continues it.")
        with act:
            run_buttons(run)

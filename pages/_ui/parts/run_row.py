"""The state of runs: one row per run with status, progress, scores and buttons."""

from collections.abc import Iterable

import streamlit as st

from mer.runs.run import ACTIVE, Run
from mer.utils.progress import ProgressReport, duration
from pages._ui.cached.runs import all_runs
from pages._ui.parts.run_buttons import run_buttons
from pages._ui.shell.permission import shown
from pages._ui.shell.style import STATUS, members_of, plain, run_score, run_standing

__all__ = ["moving", "progress_of", "show_run"]


def moving(runs: Iterable[Run]) -> bool:
    """True while one of the runs has a process that works or waits."""
    return any(run.status in ACTIVE and run.status != "interrupted" for run in runs)


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
                st.markdown(plain(stage_of(run)) or "waiting for its process")
            else:
                st.progress(min(share, 1.0), text=plain(words))
            if run.members:
                st.caption(f"an ensemble of {plain(members_of(run))}")
            if run.reason and run.status in ("failed", "stopped"):
                st.caption(plain(shown(run.reason)))
            elif run.status == "interrupted":
                st.caption("Its process ended unexpectedly (a crash or a shutdown). Resume continues it.")
        with act:
            run_buttons(run)

"""Buttons of a run: stop, resume and delete; undo, and the deleted runs."""

import math
import time
from collections.abc import Callable
from typing import Any

import streamlit as st

from mer.jobs.queue import log_path
from mer.runs.run import RESUMABLE, GoneError, Run
from mer.runs.store import RunStore
from mer.utils.errors import MerError
from mer.utils.progress import megabytes
from pages._ui.cached.runs import bytes_of_deleted, deleted_runs
from pages._ui.parts.confirm import confirm
from pages._ui.shell.changes import cancel, delete, prune, relaunch, restore
from pages._ui.shell.permission import refusal, shown
from pages._ui.shell.style import counted, plain, titled

__all__ = ["acted", "log_tail", "run_buttons", "show_deleted", "show_outcome"]

LOG_BYTES = 4000
AGAIN = 3.0  # s within which the same button counts as a second click
KEPT = "It can be restored. Its files stay on the disk until they are removed: see *Deleted runs* on Live."


def run_buttons(run: Run) -> None:
    """The buttons that fit the state of a run; none for visitors who may change nothing."""
    if refusal():
        return
    with st.container(horizontal=True, horizontal_alignment="right"):
        if run.status in ("queued", "running"):
            _button("Stop", ":material/stop:", cancel, run)
        if run.status in RESUMABLE and not run.parent:
            _button("Resume", ":material/play_arrow:", relaunch, run)
        if run.status not in ("running", "stopping"):
            confirm(
                f"Delete {run.id}", f"Delete **{plain(run.name)}** `{run.id[:8]}`? {KEPT}",
                "Delete", _do, "Delete", delete, run, hint="Delete this run",
            )  # fmt: skip


def _button(label: str, icon: str, action: Callable[[RunStore, str], Run], run: Run) -> None:
    st.button(label, icon=icon, key=f"{label} {run.id}", on_click=_do, args=(label, action, run))


def _do(label: str, action: Callable[[RunStore, str], Any], run: Run) -> None:
    """Act before the page is redrawn; the outcome is shown there."""
    state = st.session_state
    before, at = state.get("last action", ("", -math.inf))
    if before == (label, run.id) and time.monotonic() - at < AGAIN:
        return
    state["last action"] = (label, run.id), time.monotonic()
    state["acted"], state["deleted run"] = True, None
    try:
        action(RunStore.open(), run.id)
    except GoneError:
        state["outcome"] = "info", f"Run {titled(run)} is gone: it was deleted before."
    except MerError as error:
        state["outcome"] = "error", shown(f"{label}: {error}")
    else:
        state["deleted run"] = run if label == "Delete" else None
        if label == "Restore" and "run" in state:  # the choice on Live
            state["run"] = [run.id, *state["run"]]


def acted() -> bool:
    """True if a button was pressed since the whole page was last drawn."""
    return "acted" in st.session_state


def show_outcome() -> None:
    """Show what the last button did. Not in a fragment, which would soon overwrite it."""
    state = st.session_state
    state.pop("acted", None)
    if outcome := state.pop("outcome", None):
        kind, message = outcome
        (st.error if kind == "error" else st.info)(plain(message), icon=f":material/{kind}:")
    if run := state.get("deleted run"):
        with st.container(horizontal=True, vertical_alignment="center"):
            words = f"Run {plain(titled(run))} was deleted. {KEPT}"
            st.info(words, icon=":material/delete:", width="stretch")
            st.button("Undo", icon=":material/undo:", on_click=_do, args=("Restore", restore, run))


def show_deleted() -> None:
    """On demand the deleted runs: restore one, or remove the files of all of them."""
    if refusal() or not st.toggle("Deleted runs", key="show deleted"):
        return
    every = {run.id: run for run in deleted_runs()}
    found = [run for run in every.values() if run.parent not in every]
    if not found:
        st.caption("There are none that can be restored.")
        return
    for run in found:
        with st.container(horizontal=True, vertical_alignment="center", border=True):
            st.markdown(f"**{plain(run.name)}** · `{run.id[:8]}` · {run.status}", width="stretch")
            _button("Restore", ":material/restore_from_trash:", restore, run)
    size = megabytes(bytes_of_deleted())
    confirm(
        "remove files",
        f"Remove the files of {counted(len(found), 'deleted run')}, {size}? This cannot be undone.",
        "Remove for good", _remove, [run.id for run in found], opener=f"Free {size}",
        icon=":material/delete_forever:",
    )  # fmt: skip


def _remove(run_ids: list[str]) -> None:
    """Remove the files of the deleted runs that were listed."""
    state = st.session_state
    state["acted"], state["deleted run"] = True, None
    try:
        runs, size = prune(RunStore.open(), run_ids)
    except MerError as error:
        state["outcome"] = "error", shown(f"Remove for good: {error}")
    else:
        what = f"The files of {counted(len(runs), 'deleted run')}"
        state["outcome"] = "info", f"{what} were removed: {megabytes(size)}."


def log_tail(run: Run) -> str:
    """The end of the log of a run's process."""
    try:
        with log_path(run.id).open("rb") as file:
            file.seek(max(0, log_path(run.id).stat().st_size - LOG_BYTES))
            return file.read().decode("utf-8", "replace").strip() or "(nothing yet)"
    except OSError:
        return "(no log: this run was not launched in the background)"

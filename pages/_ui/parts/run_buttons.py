"""Buttons of a run: stop, resume, and delete after a confirmation."""

from collections.abc import Callable

import streamlit as st

from mer.jobs.queue import log_path
from mer.runs.run import RESUMABLE, Run
from mer.runs.store import RunStore
from mer.utils.errors import MerError
from pages._ui.shell.changes import cancel, delete, relaunch
from pages._ui.shell.permission import refusal, shown
from pages._ui.shell.style import plain

__all__ = ["acted", "log_tail", "run_buttons", "show_outcome"]

LOG_BYTES = 4000


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
            with st.popover("", icon=":material/delete:", help="Delete this run"):
                st.write(
                    f"Delete **{plain(run.name)}** with its curves and model? This cannot be undone here."
                )
                _button("Delete for good", ":material/delete_forever:", delete, run)


def _button(label: str, icon: str, action: Callable[[RunStore, str], Run], run: Run) -> None:
    st.button(label, icon=icon, key=f"{label} {run.id}", on_click=_do, args=(label, action, run.id))


def _do(label: str, action: Callable[[RunStore, str], Run], run_id: str) -> None:
    """Run before the page is redrawn; an error is shown there."""
    try:
        action(RunStore.open(), run_id)
    except MerError as error:
        st.session_state["action failed"] = shown(f"{label}: {error}")
    st.session_state["acted"] = True


def acted() -> bool:
    """True if a button was pressed since the whole page was last drawn."""
    return "acted" in st.session_state


def show_outcome() -> None:
    """Show the error of the last button. Not in a fragment, which would soon overwrite it."""
    st.session_state.pop("acted", None)
    if message := st.session_state.pop("action failed", None):
        st.error(plain(message), icon=":material/error:")


def log_tail(run: Run) -> str:
    """The end of the log of a run's process."""
    try:
        with log_path(run.id).open("rb") as file:
            file.seek(max(0, log_path(run.id).stat().st_size - LOG_BYTES))
            return file.read().decode("utf-8", "replace").strip() or "(nothing yet)"
    except OSError:
        return "(no log: this run was not launched in the background)"

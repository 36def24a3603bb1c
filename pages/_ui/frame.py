"""The frame around every page: navigation, the state of the machine, and errors in plain words.

A page starts with `with page("Live"):` and depends on nothing else. Streamlit may run a page without
streamlit_app.py; then the page itself sets up the navigation.

It imports little, so that the first heading appears within 0.1 s. After that, Streamlit shows a placeholder
and keeps it for half a second.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import streamlit as st

from mer.utils.machine import wait_asleep
from pages._ui.shell.errors import guarded
from pages._ui.shell.links import arrive, page_file, write_address
from pages._ui.shell.permission import identity
from pages._ui.shell.style import STATUS, counted, plain

__all__ = ["PAGES", "navigation", "page"]

wait_asleep()

LOOK = Path(__file__).parent / "shell" / "look.css"
LISTED = 5  # active runs in the sidebar

# Group, then title, file and icon of each page.
PAGES = {
    "Listen": (
        ("Home", "home", ":material/home:"),
        ("Predict", "predict", ":material/graphic_eq:"),
        ("Class vote", "vote", ":material/how_to_vote:"),
    ),
    "Learn": (
        ("Data", "data", ":material/library_music:"),
        ("Train", "train", ":material/fitness_center:"),
        ("Live", "live", ":material/monitoring:"),
    ),
    "Look": (
        ("Compare", "compare", ":material/leaderboard:"),
        ("Confusion", "confusion", ":material/grid_on:"),
        ("Map", "map", ":material/scatter_plot:"),
        ("2022 study", "study", ":material/history_edu:"),
        ("Ladder", "ladder", ":material/stairs:"),
    ),
}


def navigation() -> st.Page:
    """Show the menu; returns the requested page."""
    st.set_page_config(page_icon="🎵")  # before the menu; otherwise browsers fetch page icons from Google
    groups = {
        group: [
            st.Page(page_file(name), title=title, icon=icon, default=name == "home")
            for title, name, icon in pages
        ]
        for group, pages in PAGES.items()
    }
    st.session_state["framed"] = True
    return st.navigation(groups)


@contextmanager
def page(title: str) -> Iterator[None]:
    """Show navigation and the state of the machine around a page; turn its errors into messages."""
    state = st.session_state
    if not state.pop("framed", False):
        navigation()
        state.pop("framed")
        if not state.get("sent to the entry point"):  # after one rerun, widgets keep their values
            state["sent to the entry point"] = True
            st.rerun()
    st.set_page_config(page_title=f"{title} · mer", page_icon="🎵", layout="wide")
    st.html(LOOK)
    arrive(title)
    with guarded():
        yield
    write_address()
    with st.sidebar, guarded():  # last: listing runs imports MLflow, which takes seconds the first time
        identity()
        _machine()


def _machine() -> None:
    """One line with the device and the runs at a time, then a link to each active run."""
    from mer.runs.turns import in_order
    from mer.utils.machine import gpus, processors, slots
    from pages._ui.cached.runs import active_runs

    device = f"{gpus()} GPU" if gpus() else f"CPU, {counted(len(processors()), 'core')}"
    st.caption(f"{device} · {counted(slots(), 'run')} at a time")
    active = in_order(active_runs())
    for run in active[:LISTED]:
        icon, _ = STATUS[run.status]
        st.page_link(
            page_file("live"),
            label=f"{plain(run.name)}: {run.status}",
            icon=icon,
            query_params={"run": run.id[:8]},
        )
    if len(active) > LISTED:
        st.page_link(
            page_file("live"), label=f"and {len(active) - LISTED} more", icon=":material/more_horiz:"
        )

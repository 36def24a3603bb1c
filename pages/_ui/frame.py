"""The frame around every page: navigation, the state of the machine, and errors in plain words.

A page opens with `with page("Live"):` and depends on nothing else: visited before the front door, Streamlit
runs the page without streamlit_app.py, and then the page itself puts up the navigation.

Imports little, so that a first visitor sees a heading within a tenth of a second of the server's time: later
than that, Streamlit shows a placeholder first and keeps it for half a second.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import streamlit as st

from mer.utils.errors import MerError
from mer.utils.machine import wait_asleep
from pages._ui.shell.permission import identity, shown
from pages._ui.shell.style import STATUS, counted, plain

__all__ = ["PAGES", "guarded", "navigation", "page", "page_file"]

wait_asleep()

FOLDER = Path(__file__).parents[1]
# Group, then title, file and icon of each page.
PAGES = {
    "Listen": (("Home", "home", ":material/home:"), ("Predict", "predict", ":material/graphic_eq:")),
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


def page_file(name: str) -> str:
    """Path of a page by its file's name, as links want it."""
    return str(FOLDER / f"{name}.py")


def navigation() -> st.Page:
    """Put up the menu; returns the page that was asked for."""
    st.set_page_config(page_icon="🎵")  # before the menu, or each page's icon would be fetched from Google
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
    """Everything around a page's own content."""
    state = st.session_state
    if not state.pop("framed", False):
        navigation()
        state.pop("framed")
        if not state.get("sent to the front door"):  # from there on widgets keep what is put into them
            state["sent to the front door"] = True
            st.rerun()
    st.set_page_config(page_title=f"{title} · mer", page_icon="🎵", layout="wide")
    with guarded():
        yield
    with st.sidebar, guarded():  # last: with runs to list it imports MLflow, which takes seconds once
        identity()
        _machine()


@contextmanager
def guarded(said: set[str] | None = None) -> Iterator[None]:
    """Say what went wrong and what to do; the technical part goes to the log, and opens on demand.

    Parts of a page that may come upon the same trouble share `said`: it is told once.
    """
    try:
        yield
    except MerError as error:
        if said is None or str(error) not in said:
            st.error(plain(shown(str(error))), icon=":material/error:")
        if said is not None:
            said.add(str(error))
    except Exception as error:  # a page must not end in a traceback
        logging.getLogger("mer.pages").exception("a page failed")
        st.error("Something went wrong here. Reload the page. If the error stays, see the server's log.")
        with st.expander("Technical details"):
            st.code(shown(f"{type(error).__name__}: {error}"), language=None)


def _machine() -> None:
    """One line of state: where it computes, how many at once, and what is active."""
    from mer.utils.machine import gpus, processors, slots
    from pages._ui.cached.models import active_runs

    device = f"{gpus()} GPU" if gpus() else f"CPU, {counted(len(processors()), 'core')}"
    st.caption(f"{device} · {counted(slots(), 'run')} at a time")
    for run in active_runs()[:5]:
        icon, _ = STATUS[run.status]
        st.page_link(
            page_file("live"),
            label=f"{plain(run.name)}: {run.status}",
            icon=icon,
            query_params={"run": run.id[:8]},
        )

"""Removing a data set from the list, after a question."""

import streamlit as st

from pages._ui.parts.confirm import confirm
from pages._ui.shell.changes import forget
from pages._ui.shell.style import plain

__all__ = ["offer_forgetting", "show_forgotten"]

FORGOTTEN = "forgotten data set"


def offer_forgetting(key: str, name: str) -> None:
    """A button that removes the data set with this key and name from the list, after a question."""
    confirm(
        f"forget {key}",
        f"Remove **{plain(name)}** from the list? Its files are not deleted.",
        "Forget it", _forget, key, name, opener="Forget", icon=":material/playlist_remove:",
    )  # fmt: skip


def _forget(key: str, name: str) -> None:
    """Remove it, before the page is drawn again."""
    forget(key)
    st.session_state[FORGOTTEN] = name


def show_forgotten() -> None:
    """Say that a data set was just removed from the list."""
    if name := st.session_state.pop(FORGOTTEN, ""):
        st.info(f"{plain(name)} was removed from the list. Its files are where they were.")

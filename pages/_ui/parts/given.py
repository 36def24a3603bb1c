"""Sound that a visitor gave: an upload or a recording, kept while the visitor looks at other pages."""

from collections.abc import Callable
from functools import partial
from typing import Any

import streamlit as st

from pages._ui.shell.style import plain

__all__ = ["given"]


def given(ask: Callable[..., Any], label: str, *, key: str, **options: Any) -> list[tuple[str, bytes]]:
    """Ask for sound with a widget; returns the name and content of each file.

    Streamlit forgets the files of a widget when another page is opened. So they are kept in the session,
    until they are removed, replaced, or the page is loaded again.

    Parameters
    ----------
    ask
        `st.file_uploader` or `st.audio_input`.
    label, key, **options
        Arguments of the widget.
    """
    asked = ask(label, key=key, on_change=partial(_keep, key), **options)
    kept = st.session_state.get(f"kept {key}", [])
    if kept and not asked:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f"Kept: {plain(', '.join(name for name, _ in kept))}. Another file replaces it.")
            st.button("Remove", icon=":material/close:", on_click=partial(_keep, key))
    return kept


def _keep(key: str) -> None:
    """Keep what the widget holds now; nothing if that is nothing."""
    files = st.session_state[key] or []
    files = files if isinstance(files, list) else [files]
    st.session_state[f"kept {key}"] = [(file.name, file.getvalue()) for file in files]

"""How the songs of a data set were found, and a pattern of file names to find them by."""

import streamlit as st

from mer.data.check import GUESSED, Report
from mer.data.library import find
from mer.data.song_names import NO_PATTERN, Naming
from pages._ui.shell.changes import add
from pages._ui.shell.permission import refusal
from pages._ui.shell.style import plain

__all__ = ["offer_pattern", "songs_caption"]

WHOLE = "Splits keep all clips of a song together."


def songs_caption(found: Report) -> str:
    """A sentence on how the songs were found."""
    if found.dataset.naming:
        return f"File names name the songs, by the pattern {found.dataset.naming.pattern}. {WHOLE}"
    return {
        "by hand": f"The data set names the songs. {WHOLE}",
        "by sound": f"No song names. Songs are {GUESSED}.",
        "none": "No song names. Clips of one song may be in both training and test, which inflates scores.",
    }[found.grouping.source]


def offer_pattern(found: Report) -> None:
    """Show what the pattern in use does, or what a possible one would do, with a button to change it."""
    naming, offered = found.dataset.naming, found.dataset.offered
    if naming:
        _show(naming, "Songs by file name", "Do not use it", NO_PATTERN)
    elif offered:
        _show(offered, "Do these file names name the songs?", "Use this pattern", offered.pattern)


def _show(naming: Naming, title: str, button: str, pattern: str) -> None:
    """The songs of a pattern, and a button that adds the data set again with `pattern`."""
    with st.expander(title, icon=":material/label:"):
        count = len(set(naming.songs.values()))
        st.write(plain(f"The pattern {naming.pattern} makes {count} songs, such as these:"))
        rows = [{"song": song, "clips": ", ".join(clips)} for song, clips in naming.examples().items()]
        st.dataframe(rows, hide_index=True)
        if not refusal() and st.button(button, key="song pattern"):
            entry = find(st.session_state["data"])
            added = add(entry.path, **entry.reading | {"song_pattern": pattern}, source=entry.source)
            st.query_params["data"] = added.key
            st.rerun()

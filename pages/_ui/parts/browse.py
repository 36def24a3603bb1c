"""The clips of a data set: a table with filters, and the chosen clip from file to network input."""

import streamlit as st

from mer.data.check import Report
from mer.data.clips import Clip
from mer.utils.errors import DataError
from pages._ui.parts.player import player
from pages._ui.parts.steps import show_steps
from pages._ui.shell.links import chosen, remember
from pages._ui.shell.style import bilingual, plain

__all__ = ["browse"]


def browse(found: Report) -> None:
    """A filtered table of clips; the chosen clip is played and shown step by step."""
    st.subheader("Clips")
    data = found.dataset
    classes = st.pills(
        "Classes", data.classes, format_func=lambda name: plain(bilingual(name)), key="classes",
        selection_mode="multi", help="Choose none to show all.",
    )  # fmt: skip
    search = st.text_input("Find in file name or song", key="search").casefold()
    rows = [
        {"clip": clip.id, "class": clip.label, "song": clip.song or "", "seconds": round(fact.seconds, 1)}
        for clip, fact in zip(data.clips, found.facts, strict=True)
        if (not classes or clip.label in classes) and search in f"{clip.id} {clip.song}".casefold()
    ]
    if not rows:
        st.info("No clip matches. Clear the search or choose other classes.")
        return
    names = [row["clip"] for row in rows]
    left, right = st.columns([2, 3])
    with left:
        st.session_state["table names"] = names
        st.dataframe(
            rows,
            hide_index=True,
            height=300,
            on_select=take_from_table,
            selection_mode="single-row",
            key="table",
        )
    with right:
        chosen("clip", names)
        name = st.selectbox("Clip", names, key="clip")
        remember("clip", name)
        clip = next(clip for clip in data.clips if clip.id == name)
        content = _content(clip)
        player(content, clip.id)
        st.caption(f"{plain(bilingual(clip.label))}; song: {plain(clip.song or 'unknown')}")
    show_steps(content, clip.id)


def _content(clip: Clip) -> bytes:
    """The bytes of a clip's file. Raises DataError if it can no longer be read."""
    try:
        return clip.path.read_bytes()
    except OSError as error:
        raise DataError(f"{clip.id} can no longer be read; press Check again to update the list") from error


def take_from_table() -> None:
    """Show the clip of the row that was clicked."""
    picked, names = st.session_state["table"]["selection"]["rows"], st.session_state["table names"]
    if picked and picked[0] < len(names):
        st.session_state["clip"] = names[picked[0]]

"""The clips of a data set: a table to filter and choose from, and the chosen clip taken apart."""

import streamlit as st

from mer.data.check import Report
from mer.utils.errors import DataError
from pages._ui.parts.steps import show_steps
from pages._ui.shell.links import chosen, remember
from pages._ui.shell.style import bilingual, plain

__all__ = ["browse"]


def browse(found: Report) -> None:
    """A table of clips, filtered; the chosen one is played and taken apart."""
    st.subheader("Clips")
    data = found.dataset
    classes = st.pills(
        "Classes", data.classes, format_func=lambda name: plain(bilingual(name)), key="classes",
        selection_mode="multi", help="None chosen means all.",
    )  # fmt: skip
    search = st.text_input("Find in file name or song", key="search").casefold()
    rows = [
        {"clip": clip.id, "class": clip.label, "song": clip.song or "", "seconds": round(fact.seconds, 1)}
        for clip, fact in zip(data.clips, found.facts, strict=True)
        if (not classes or clip.label in classes) and search in f"{clip.id} {clip.song}".casefold()
    ]
    if not rows:
        st.info("No clip fits; clear the search or choose other classes.")
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
        try:
            content = clip.path.read_bytes()
        except OSError as error:
            raise DataError(f"{clip.id} cannot be read any more; see what is left: Check again") from error
        st.audio(content)
        st.caption(f"{plain(bilingual(clip.label))}; song: {plain(clip.song or 'not known')}")
    show_steps(content, clip.id)


def take_from_table() -> None:
    """The row that was clicked becomes the clip that is shown."""
    picked, names = st.session_state["table"]["selection"]["rows"], st.session_state["table names"]
    if picked and picked[0] < len(names):
        st.session_state["clip"] = names[picked[0]]

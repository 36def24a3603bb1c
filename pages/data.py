"""Data: add and check data sets, and follow a clip from its file to the input of the network."""

import streamlit as st

from mer.data.check import Report
from mer.data.library import Entry, known
from mer.utils.files import home
from mer.utils.progress import duration
from pages._ui.cached.datasets import report, title
from pages._ui.charts.base import draw
from pages._ui.charts.dataset import balance, lengths
from pages._ui.frame import page
from pages._ui.parts.add_data import adding
from pages._ui.parts.browse import browse
from pages._ui.parts.forget import offer_forgetting, show_forgotten
from pages._ui.parts.song_names import offer_pattern, songs_caption
from pages._ui.shell.errors import guarded
from pages._ui.shell.links import chosen, page_file, remember
from pages._ui.shell.permission import refusal, shown
from pages._ui.shell.style import plain


def warn_of_damage() -> None:
    """Warn if the list of data sets was damaged."""
    kept = home() / "library.json.damaged"
    if kept.exists():
        st.warning(
            f"The list of data sets was damaged and was saved as {plain(shown(str(kept)))}. No clips were "
            "lost. Add the data sets again, then delete that file."
        )


def pick() -> Entry | None:
    """Select one of the known data sets."""
    sets = {entry.key: entry for entry in known()}
    if not sets:
        return None
    names = {key: title(entry) for key, entry in sets.items()}
    there = [key for key, entry in sets.items() if entry.exists]
    chosen("data", list(sets), default=there[:1], what="data set", called=names.__getitem__)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        key = st.selectbox("Data set", list(sets), format_func=names.__getitem__, key="data")
        again = False
        if not refusal():
            again = st.button(
                "Check again", icon=":material/refresh:", help="Use this after adding or removing clips"
            )
            offer_forgetting(key, names[key])
    remember("data", key)
    if not sets[key].exists:
        st.error(
            f"{plain(shown(sets[key].path))} no longer exists. Restore it, or remove it from the list with "
            "*Forget*."
        )
        return None
    if again:
        report(sets[key], again=True)
    return sets[key]


def show_report(found: Report) -> None:
    """Counts, charts, and the clips that were left out."""
    seconds = [fact.seconds for fact in found.facts]
    figures = (
        ("Clips", len(seconds)), ("Classes", len(found.dataset.classes)), ("Songs", found.songs()),
        ("Duration", duration(sum(seconds))), ("Left out", len(found.left_out) + len(found.duplicates)),
    )  # fmt: skip
    for column, (name, value) in zip(st.columns(5), figures, strict=True):
        column.metric(name, value, border=True)
    st.caption(plain(songs_caption(found)))
    offer_pattern(found)
    for remark in found.dataset.remarks:
        st.warning(plain(remark))
    left, right = st.columns(2)
    with left:
        draw(balance(found.dataset.class_counts()), key="balance")
    left.caption("If one class is much larger than the others, always predicting it scores well.")
    with right:
        draw(lengths(seconds), key="lengths")
    right.caption("Clips shorter than a 10 s window are padded. Longer clips give several windows.")
    if found.left_out or found.duplicates:
        rows = [{"clip": name, "reason": why} for name, why in found.left_out]
        rows += [{"clip": drop, "reason": f"same audio as {kept}"} for kept, drop in found.duplicates]
        with st.expander(f"{len(rows)} left out, with reasons"):
            st.dataframe(rows, hide_index=True)
    clips = zip(found.dataset.clips, found.facts, strict=True)
    if rows := [{"clip": clip.id, "remark": " ".join(fact.remarks)} for clip, fact in clips if fact.remarks]:
        with st.expander(f"{len(rows)} used, with a remark"):
            st.dataframe(rows, hide_index=True)


with page("Data"):
    st.title("Data")
    show_forgotten()
    entry = pick()
    warn_of_damage()
    if why := refusal():
        st.info(why, icon=":material/lock:")
    else:
        with st.expander("Add a data set", expanded=entry is None, icon=":material/add:"), guarded():
            if added := adding():
                st.query_params["data"] = added.key
                st.rerun()
    if entry:
        found = report(entry)
        if found.dataset.synthetic:
            st.badge("synthetic music", icon=":material/science:", color="gray")
        show_report(found)
        st.page_link(page_file("train"), label="Train on this data set", icon=":material/fitness_center:",
                     query_params={"data": entry.key})  # fmt: skip
        browse(found)

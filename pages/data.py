"""Data: get data sets, see what is in them and what is not, and follow a clip to what the network sees."""

import streamlit as st

from mer.data.check import Report
from mer.data.library import Entry, known
from mer.utils.files import home
from mer.utils.progress import duration
from pages._ui.cached.datasets import report, title
from pages._ui.charts.dataset import balance, lengths
from pages._ui.frame import guarded, page, page_file
from pages._ui.parts.add_data import adding
from pages._ui.parts.browse import browse
from pages._ui.shell.changes import forget
from pages._ui.shell.links import chosen, remember
from pages._ui.shell.permission import refusal, shown
from pages._ui.shell.style import plain


def warn_of_damage() -> None:
    """Say that the list of data sets was lost, where it was."""
    kept = home() / "library.json.damaged"
    if kept.exists():
        st.warning(
            f"The list of data sets was damaged, and is kept as {plain(shown(str(kept)))}. The clips are "
            "where they were: add the data sets again, then remove that file."
        )


def pick() -> Entry | None:
    """One of the known data sets, named in the address."""
    sets = {entry.key: entry for entry in known()}
    if not sets:
        return None
    chosen("data", list(sets))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        key = st.selectbox("Data set", list(sets), format_func=lambda key: title(sets[key]), key="data")
        again = False
        if not refusal():
            again = st.button(
                "Check again", icon=":material/refresh:", help="After clips were added or removed"
            )
            with st.popover("Forget"):
                st.write("Take it off this list? Its files stay where they are.")
                if st.button("Forget it"):
                    forget(key)
                    st.rerun()
    remember("data", key)
    if not sets[key].exists:
        st.error(
            f"{plain(shown(sets[key].path))} is not there any more; bring it back, or take it off the list: "
            "Forget."
        )
        return None
    if again:
        report(sets[key], again=True)
    return sets[key]


def show_report(found: Report) -> None:
    """What can be used, what cannot and why."""
    seconds = [fact.seconds for fact in found.facts]
    figures = (
        ("Clips", len(seconds)), ("Classes", len(found.dataset.classes)), ("Songs", found.songs()),
        ("Total", duration(sum(seconds))), ("Left out", len(found.left_out) + len(found.duplicates)),
    )  # fmt: skip
    for column, (name, value) in zip(st.columns(5), figures, strict=True):
        column.metric(name, value, border=True)
    ways = {
        "by hand": "Songs are named by the data set.",
        "by sound": "No song is named; clips that share audio or sound alike count as one song.",
        "none": "No song is named: clips of one song may be in training and test, which flatters scores.",
    }
    st.caption(f"{ways[found.grouping.source]} Splits keep the clips of a song together.")
    left, right = st.columns(2)
    left.plotly_chart(balance(found.dataset.class_counts()), key="balance")
    left.caption("Look for a class much larger than the others: always naming it would score well.")
    right.plotly_chart(lengths(seconds), key="lengths")
    right.caption("Clips shorter than a window of 10 s are filled up, longer ones give several windows.")
    if found.left_out or found.duplicates:
        rows = [{"clip": name, "why it is left out": why} for name, why in found.left_out]
        rows += [
            {"clip": drop, "why it is left out": f"same audio as {kept}"} for kept, drop in found.duplicates
        ]
        with st.expander(f"{len(rows)} left out, and why"):
            st.dataframe(rows, hide_index=True)


with page("Data"):
    st.title("Data")
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
        st.page_link(page_file("train"), label="Train on it", icon=":material/fitness_center:",
                     query_params={"data": entry.key})  # fmt: skip
        browse(found)

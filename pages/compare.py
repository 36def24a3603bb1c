"""Compare: rank runs tested on the same clips, overlay their curves, compare two runs clip by clip."""

import streamlit as st

from mer.data.apart import MARKS
from mer.utils.csv import as_csv
from pages._ui.cached.results import Tested, finished_runs, tested_on
from pages._ui.charts.curves import CURVES, has_curves, read_curves, show_curves
from pages._ui.frame import page
from pages._ui.parts.checks import show_check_results
from pages._ui.parts.ensembles import show_joining
from pages._ui.parts.leaderboard import show_forest, show_leaderboard
from pages._ui.parts.pair import show_pair
from pages._ui.shell.errors import guarded
from pages._ui.shell.links import chosen, page_file, remember
from pages._ui.shell.style import counted, titled


def pick_group(groups: list[Tested]) -> Tested:
    """Select a set of test clips; runs tested on other clips are not ranked with it."""
    titles = {group.key: f"{group.title} ({counted(len(group.runs), 'run')})" for group in groups}
    chosen("on", list(titles), what="set of test clips", called=titles.__getitem__)
    key = st.selectbox("Tested on", list(titles), format_func=titles.__getitem__, key="on")
    remember("on", key)
    if len(groups) > 1:
        others = sum(len(group.runs) for group in groups if group.key != key)
        st.caption(
            f"Not ranked here: {counted(others, 'more run')}, tested on other clips or split in another way. "
            "Such scores cannot be compared."
        )
    return next(group for group in groups if group.key == key)


def show_board(group: Tested) -> None:
    """The leaderboard, its chart and its download."""
    if mark := group.runs[0].leak:
        st.warning(MARKS[mark] + (" These runs have no rank." if group.leaky else ""), icon=":material/rule:")
    rows = show_leaderboard(group)
    show_forest(group)
    if not group.leaky:
        st.caption(
            "The table tells each run from the highest score by the songs that only one of the two gets "
            "right (McNemar's exact test; p is for this pair alone). Two runs may differ although their "
            "intervals overlap, since both were tested on the same songs. The SVM uses simple statistics of "
            "mel bands, MFCC, chroma and onsets."
        )
    kept = [{key: value for key, value in row.items() if key != "95% interval"} for row in rows]
    names = {name: "" for row in kept for name in row}
    full = [names | row for row in kept]
    st.download_button("CSV", as_csv(full), "runs.csv", "text/csv", icon=":material/download:")


def overlay(group: Tested) -> None:
    """Learning curves of several runs in one chart."""
    runs = {run.id: run for run in group.runs if has_curves(run)}
    if not runs:
        st.caption("Ensembles have no learning curves. For the folds of a cross-validation, see Live.")
        return
    names = {run_id: titled(run) for run_id, run in runs.items()}
    chosen("run", list(runs), default=list(runs)[:3], many=CURVES, what="run", called=names.__getitem__)
    picked = st.multiselect(
        "Curves of", list(runs), format_func=names.__getitem__, key="run", max_selections=CURVES
    )
    remember("run", [run_id[:8] for run_id in picked])
    shown = [runs[run_id] for run_id in picked]
    if not shown:
        return
    read = {run.id: read_curves(run, "epoch") for run in shown}
    show_curves(shown, read, "epoch", key="compare")
    st.caption("For the curves of folds, see Live.")


with page("Compare"):
    st.title("Compare")
    groups = tested_on(finished_runs())
    if not groups:
        st.info("No finished runs yet. Train two networks to compare them here.")
        st.page_link(page_file("train"), label="Train a network", icon=":material/fitness_center:")
    else:
        group = pick_group(groups)
        said = set()
        for section in (show_board, overlay, show_pair, show_check_results, show_joining):
            with guarded(said):
                section(group)

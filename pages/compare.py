"""Compare: rank runs tested on the same clips, overlay their curves, compare two runs clip by clip."""

import streamlit as st

from mer.data.apart import MARKS
from mer.metrics.comparison import compare
from mer.utils.csv import as_csv
from pages._ui.cached.results import Tested, clip_bytes, finished_runs, scores, tested_on
from pages._ui.charts.curves import CURVES, has_curves, read_curves, show_curves
from pages._ui.frame import page
from pages._ui.parts.checks import show_check_results
from pages._ui.parts.ensembles import show_joining
from pages._ui.parts.leaderboard import differences, show_forest, show_leaderboard
from pages._ui.shell.errors import guarded
from pages._ui.shell.links import chosen, page_file, remember
from pages._ui.shell.style import counted, plain, titled


def pick_group(groups: list[Tested]) -> Tested:
    """Select a set of test clips; runs tested on other clips are not ranked with it."""
    titles = {group.key: f"{group.title} ({counted(len(group.runs), 'run')})" for group in groups}
    chosen("on", list(titles))
    key = st.selectbox("Tested on", list(titles), format_func=titles.__getitem__, key="on")
    remember("on", key)
    if len(groups) > 1:
        others = sum(len(group.runs) for group in groups if group.key != key)
        st.caption(
            f"Not ranked here: {counted(others, 'more run')}, tested on other clips. Scores on different "
            "clips cannot be compared."
        )
    return next(group for group in groups if group.key == key)


def show_board(group: Tested) -> None:
    """The leaderboard, its chart and its download."""
    if mark := group.runs[0].leak:
        st.warning(MARKS[mark] + (" These runs have no rank." if group.leaky else ""), icon=":material/rule:")
    rows = show_leaderboard(group)
    show_forest(group)
    st.caption(
        "The table tells each run from the highest score by the songs that only one of the two gets right "
        "(McNemar's exact test; p is for this pair alone). Two runs may differ although their intervals "
        "overlap, since both were tested on the same songs. The SVM uses simple statistics of mel bands, "
        "MFCC, chroma and onsets."
    )
    kept = [{key: value for key, value in row.items() if key != "95% interval"} for row in rows]
    full = [dict.fromkeys(kept[0], "") | row for row in kept]
    st.download_button("CSV", as_csv(full), "runs.csv", "text/csv", icon=":material/download:")


def overlay(group: Tested) -> None:
    """Learning curves of several runs in one chart."""
    runs = {run.id: run for run in group.runs if has_curves(run)}
    if not runs:
        st.caption("Ensembles have no learning curves. For the folds of a cross-validation, see Live.")
        return
    chosen("run", list(runs), default=list(runs)[:3], many=CURVES)
    picked = st.multiselect(
        "Curves of", list(runs), format_func=lambda key: titled(runs[key]), key="run", max_selections=CURVES
    )
    remember("run", [run_id[:8] for run_id in picked])
    shown = [runs[run_id] for run_id in picked]
    if not shown:
        return
    read = {run.id: read_curves(run, "epoch") for run in shown}
    show_curves(shown, read, "epoch", key="compare")
    st.caption("For the curves of folds, see Live.")


def pick_two(names: dict[str, str]) -> list[str]:
    """The keys of two runs, by default of the two with the highest scores."""
    both = []
    for column, key, number in zip(st.columns(2), ("a", "b"), (0, 1), strict=True):
        with column:
            chosen(key, list(names), default=[list(names)[number]])
            name = st.selectbox(
                ("First", "Second")[number], list(names), format_func=names.__getitem__, key=key
            )
            remember(key, name[:8])
            both.append(name)
    return both


def show_pair(group: Tested) -> None:
    """Compare two runs: verdict, recall per class, and single clips."""
    st.subheader("Two runs, clip by clip")
    names = group.names()
    if len(names) < 2:
        st.info("Only one run was tested on these clips. Train another with the same data, seed and split.")
        return
    first, second = pick_two(names)
    if first == second:
        st.info("Choose two different runs.")
        return
    classes = scores(group.runs[0])["classes"]
    found = compare(group.answers(first), group.answers(second), classes=classes)
    st.markdown(f"**{plain(found.sentence(names[first], names[second]))}**")
    st.caption(
        f"Difference in accuracy by song (95% interval): {found.verdict.difference.points}. McNemar's exact "
        "test, and the interval that belongs to it, count songs, because clips of one song are not "
        "independent. The interval excludes 0 if p is below 0.05, and only then."
    )
    st.plotly_chart(differences(found), key="differences")
    outcomes = ("only first", "only second", "both wrong", "both right")
    chosen("outcome", outcomes)
    outcome = st.segmented_control("Clips classified correctly by", outcomes, key="outcome", required=True)
    remember("outcome", outcome)
    rows = [row for row in found.clips if row["outcome"] == outcome]
    if not rows:
        st.info("There are no such clips.")
        return
    table = st.dataframe(rows, hide_index=True, on_select="rerun", selection_mode="single-row", key="pairs")
    picked = table["selection"]["rows"]
    st.caption("Select a row to hear the clip.")
    if picked and picked[0] < len(rows):
        st.audio(clip_bytes(group.runs[0], rows[picked[0]]["clip"]))


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

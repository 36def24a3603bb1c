"""Map: test clips as networks see them; neighbours look alike to it, and every point can be heard."""

import streamlit as st

from mer.runs.run import Run
from pages._ui.cached.results import Tested, finished_runs, predictions, tested_on
from pages._ui.charts.map import COLOUR_BY, alignments, map_of, places
from pages._ui.frame import guarded, page, page_file
from pages._ui.parts.cell import show_clip
from pages._ui.shell.links import chosen, remember
from pages._ui.shell.style import counted, titled

MOST = 4


def pick_runs(groups: list[Tested]) -> list[Run]:
    """One or several networks that were tested on the same clips."""
    runs = {run.id: run for group in groups for run in group.runs}
    chosen("run", list(runs), default=list(runs)[:1], many=MOST)
    picked = st.multiselect(
        "Networks", list(runs), key="run", max_selections=MOST,
        format_func=lambda run_id: titled(runs[run_id]),
        help="One: the map shows what it sees. Several, tested on the same clips: what they answer.",
    )  # fmt: skip
    remember("run", [run_id[:8] for run_id in picked])
    keys = {group.key for group in groups if {run.id for run in group.runs} & set(picked)}
    if len(keys) > 1:
        st.warning("These were tested on different clips and have no map in common; choose others.")
        return []
    if not picked:
        st.info("Choose a network.")
    return [runs[run_id] for run_id in picked]


def show_map(runs: list[Run]) -> None:
    """The map, and the clip that was clicked."""
    choices = COLOUR_BY if len(runs) > 1 else COLOUR_BY[:-1]
    chosen("colour", choices)
    by = st.segmented_control("Colour by", choices, key="colour", required=True)
    remember("colour", by)
    points = [(run, row) for run in runs for row in predictions(run)]
    chart = map_of(places(runs), points, by)
    picked = st.plotly_chart(
        chart, key=f"map {by} {len(runs)}", on_select="rerun", selection_mode="points",
        config={"displayModeBar": False},
    )  # fmt: skip
    what = "what the network sees in them" if len(runs) == 1 else "what the networks answer to them"
    st.caption(
        f"{counted(len(points), 'point')}, laid out by {what} (t-SNE). Neighbours are alike; how far apart "
        "groups lie, and how large they are, means nothing. Hollow: a wrong answer. Click a point to "
        "hear it."
    )
    if any("mer.checkpoint_run" in run.tags for run in runs) and len(runs) == 1:
        st.caption(
            "Of a cross-validation this is the network of one fold: it learned from most of these clips."
        )
    spots = picked["selection"]["points"]
    if spots:
        run, row = points[spots[0]["customdata"]]
        show_clip(run, row)


with page("Map"):
    st.title("Map")
    st.write("Where do clips lie in the eyes of a network? Each point is a test clip: click one and hear it.")
    groups = tested_on(finished_runs())
    if not groups:
        st.info("No finished run yet. Train a network, and see how it sees.", icon=":material/scatter_plot:")
        st.page_link(page_file("train"), label="Train a network", icon=":material/fitness_center:")
    else:
        runs = pick_runs(groups)
        if runs:
            with guarded():
                show_map(runs)
        if len(runs) > 1 and st.toggle("How alike do these networks see the clips?", key="alike"):
            with guarded():
                st.plotly_chart(alignments(runs), key="alignments")
                st.caption(
                    "1: the same likenesses among the clips, 0: none in common (linear CKA, Kornblith et "
                    "al., 2019). With few clips even unrelated networks come out above 0."
                )

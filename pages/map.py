"""Map: test clips laid out by a network's embeddings or by predictions of several networks."""

import streamlit as st

from mer.runs.run import Run
from pages._ui.cached.results import Tested, finished_runs, predictions, tested_on
from pages._ui.charts.base import draw
from pages._ui.charts.map import COLOUR_BY, alignments, by_embeddings, map_of, places
from pages._ui.frame import page
from pages._ui.parts.cell import show_clip
from pages._ui.shell.errors import guarded
from pages._ui.shell.links import chosen, page_file, remember
from pages._ui.shell.style import counted, titled

MOST = 4


def pick_runs(groups: list[Tested]) -> list[Run]:
    """One or several networks that were tested on the same clips."""
    runs = {run.id: run for group in groups for run in group.runs}
    names = {run_id: titled(run) for run_id, run in runs.items()}
    chosen("run", list(runs), default=list(runs)[:1], many=MOST, what="run", called=names.__getitem__)
    picked = st.multiselect(
        "Networks", list(runs), key="run", max_selections=MOST,
        format_func=names.__getitem__,
        help="The map shows the embeddings of one network, or the predictions of an ensemble or of several "
        "networks on the same clips.",
    )  # fmt: skip
    remember("run", [run_id[:8] for run_id in picked])
    keys = {group.key for group in groups if {run.id for run in group.runs} & set(picked)}
    if len(keys) > 1:
        st.warning("These networks were tested on different clips and cannot share a map. Choose others.")
        return []
    if not picked:
        st.info("Choose a network.")
    return [runs[run_id] for run_id in picked]


def show_map(runs: list[Run]) -> None:
    """The map, and the clicked clip."""
    choices = COLOUR_BY if len(runs) > 1 else COLOUR_BY[:-1]
    chosen("colour", choices)
    by = st.segmented_control(
        "Colour by", choices, key="colour", required=True,
        format_func=lambda name: "predicted" if name == "taken for" else name,
    )  # fmt: skip
    remember("colour", by)
    points = [(run, row) for run in runs for row in predictions(run)]
    chart = map_of(places(runs), points, by)
    picked = draw(
        chart, key=f"map {by} {len(runs)}", on_select="rerun", selection_mode="points",
    )  # fmt: skip
    what = "the embeddings of the network" if by_embeddings(runs) else "the predicted probabilities"
    st.caption(
        f"{counted(len(points), 'point')}, laid out by {what} (t-SNE). Neighbours are similar. The "
        "size of groups and the distance between them mean nothing. Hollow: wrong prediction. Click a point "
        "to hear its clip."
    )
    if by_embeddings(runs) and "mer.checkpoint_run" in runs[0].tags:
        st.caption(
            "For a cross-validation, this is the network of one fold. It was trained on most of these clips."
        )
    spots = picked["selection"]["points"]
    if spots:
        run, row = points[spots[0]["customdata"]]
        show_clip(run, row)


with page("Map"):
    st.title("Map")
    st.write(
        "Each point is a test clip. Clips that the network finds similar lie close together. Click one to "
        "hear it."
    )
    groups = tested_on(finished_runs())
    if not groups:
        st.info("No finished runs yet. Train a network to see its map.", icon=":material/scatter_plot:")
        st.page_link(page_file("train"), label="Train a network", icon=":material/fitness_center:")
    else:
        runs = pick_runs(groups)
        if runs:
            with guarded():
                show_map(runs)
        networks = [run for run in runs if not run.members]
        if len(networks) > 1 and st.toggle("How similar are the embeddings of these networks?", key="alike"):
            with guarded():
                draw(alignments(networks), key="alignments")
                st.caption(
                    "1: identical up to rotation and scale. 0: nothing in common (linear CKA, Kornblith et "
                    "al., 2019). With few clips even unrelated networks score above 0."
                )

"""The clips of one cell of a confusion matrix, with players."""

import streamlit as st

from mer.metrics.scores import columns
from mer.runs.run import Run
from pages._ui.cached.results import clip_bytes, predictions, scores, tested_by
from pages._ui.charts.base import draw
from pages._ui.charts.confusion import worst_cell
from pages._ui.charts.sound import probability_bars
from pages._ui.parts.explanation import show_explanation
from pages._ui.parts.player import player
from pages._ui.shell.errors import guarded
from pages._ui.shell.links import chosen, remember
from pages._ui.shell.style import counted, plain, titled

__all__ = ["show_cell", "show_clip"]

PER_PAGE = 5


def show_cell(runs: list[Run]) -> None:
    """The clips of one cell, with players."""
    st.subheader("Listen to a cell")
    names = {run.id: titled(run) for run in runs}
    places = st.columns([2, 1, 1])
    with places[0]:
        chosen("of", list(names))
        run_id = st.selectbox("Network", list(names), format_func=names.__getitem__, key="of")
        remember("of", run_id[:8])
    run = next(run for run in runs if run.id == run_id)
    found = scores(run)
    classes = found["classes"]
    i, j = worst_cell(found["confusion"], classes) or (0, 0)
    with places[1]:
        chosen("true", classes, default=[classes[i]])
        true = st.selectbox("True", classes, key="true")
        remember("true", true)
    with places[2]:
        answers = columns(found)
        chosen("said", answers, default=[classes[j]])
        said = st.selectbox("Predicted", answers, key="said")
        remember("said", said)
    rows = [row for row in predictions(run) if (row["label"], row["predicted"]) == (true, said)]
    cell = f"of {plain(true)} predicted as {plain(said)}"
    if not rows:
        st.info(f"There is no test clip {cell}. Choose another cell.")
        return
    st.markdown(f"**{counted(len(rows), 'clip')} {cell}**, highest probability first")
    rows.sort(key=lambda row: -row["probabilities"].get(said, 0.0))
    pages = -(-len(rows) // PER_PAGE)
    number = st.pagination(pages, key=f"page {run_id} {true} {said}") if pages > 1 else 1
    for row in rows[(number - 1) * PER_PAGE : number * PER_PAGE]:
        with guarded():
            show_clip(run, row)


def show_clip(run: Run, row: dict) -> None:
    """One clip: name, player and probabilities; on demand its spectrogram and an explanation."""
    key = f"{run.id} {row['clip']}"
    with st.container(border=True):
        left, right = st.columns([3, 2])
        with left:
            st.markdown(f"{plain(row['clip'])}" + (f" · song {plain(row['song'])}" if row["song"] else ""))
            content = clip_bytes(run, row["clip"])
            player(content, row["clip"])
            with st.container(horizontal=True):
                seen = st.toggle("Spectrogram", key=f"see {key}")
                asked = st.toggle("Explain", key=f"explain {key}")
            if seen:
                from pages._ui.parts.clip import picture_of

                draw(picture_of(content, row["clip"]), key=f"picture {row['clip']}")
        with right:
            draw(probability_bars(row["probabilities"], title="", height=190), key=f"bars {row['clip']}")
        if asked:
            show_explanation(content, row["clip"], tested_by(run, row["clip"]), key=key)

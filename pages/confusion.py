"""Confusion: confusion matrices of finished runs, and the clips in each cell."""

import streamlit as st

from mer.metrics.scores import columns
from mer.runs.run import Run
from pages._ui.cached.results import finished_runs, scores
from pages._ui.cached.runs import history
from pages._ui.charts.base import draw
from pages._ui.charts.confusion import cell_of, in_words, matrix, most_confused, reliability
from pages._ui.charts.curves import best_and_last
from pages._ui.frame import page
from pages._ui.parts.cell import show_cell
from pages._ui.parts.checks import verdict_of
from pages._ui.shell.errors import guarded
from pages._ui.shell.links import chosen, page_file, remember
from pages._ui.shell.style import members_of, percent, plain, run_score, run_standing, titled

MATRICES = 6
SHOW = ("counts", "row %", "how sure")


def take_cell(run_id: str, key: str) -> None:
    """List the clips of the cell that was clicked."""
    cell = cell_of(st.session_state[key])
    if cell:
        st.session_state["of"] = run_id
        st.session_state["true"], st.session_state["said"] = cell


def show_run(run: Run, show: str) -> None:
    """One run: its matrix or reliability diagram, and its scores."""
    found = scores(run)
    if found is None:
        st.warning(f"{plain(run.name)} `{run.id[:8]}` has no saved confusion matrix. Train it again.")
        return
    classes, key = found["classes"], f"matrix {run.id} {show}"
    if show == "how sure":
        words = show_sureness(found, titled(run))
    else:
        words = plain(most_confused(found["confusion"], classes))
        draw(
            matrix(found["confusion"], classes, columns(found), shares=show == "row %", title=titled(run)),
            key=key, on_select=lambda: take_cell(run.id, key), selection_mode="points",
        )  # fmt: skip
    if votes := found.get("agreement"):
        words += (
            f" A random listener agrees with {percent(votes['votes_won'])} of its predictions; the best "
            f"possible predictions would reach {percent(votes['most_votes'])}."
        )
    st.caption(f"{words} Accuracy by song: {run_score(run)}. {run_standing(run)} {origin(run)}")


def origin(run: Run) -> str:
    """Validation accuracy, the members of an ensemble, or the verdict on a control run."""
    if run.control:
        found = verdict_of(run)
        return f"**Control run. {plain(found.verdict) if found else 'Its predictions were not saved.'}**"
    if run.members:
        return f"An ensemble of {plain(members_of(run))}."
    found = best_and_last(run, history(run, "validation_accuracy"))
    return f"Validation: {found}." if found else ""


def show_sureness(found: dict, title: str) -> str:
    """Draw the reliability diagram; returns its summary."""
    if "calibration" not in found:
        st.info("This run has no calibration data. Train it again to see the diagram.")
        return ""
    draw(reliability(found["calibration"], title=title), key=f"sure {title}")
    return in_words(found["calibration"])


with page("Confusion"):
    st.title("Confusion")
    st.write(
        "Rows: true class. Columns: predicted class. Click a cell to hear its clips. *how sure* shows "
        "whether predictions made with 70% probability are right in 70% of cases."
    )
    runs = {run.id: run for run in finished_runs()}
    if not runs:
        st.info(
            "No finished runs yet. Train a network to see which emotions it confuses.",
            icon=":material/grid_on:",
        )
        st.page_link(page_file("train"), label="Train a network", icon=":material/fitness_center:")
    else:
        names = {run_id: titled(run) for run_id, run in runs.items()}
        chosen("run", list(runs), default=list(runs)[:2], many=MATRICES, what="run", called=names.__getitem__)
        picked = st.multiselect(
            "Runs", list(runs), key="run", max_selections=MATRICES, format_func=names.__getitem__
        )
        remember("run", [run_id[:8] for run_id in picked])
        chosen("show", SHOW)
        show = st.segmented_control("Show", SHOW, key="show", required=True)
        remember("show", show)
        shown = [runs[run_id] for run_id in picked]
        for number, run in enumerate(shown):
            if number % 2 == 0:
                places = st.columns(min(2, len(shown)))
            with places[number % 2], guarded():
                show_run(run, show)
        readable = []
        for run in shown:
            with guarded():
                readable += [run] if scores(run) else []
        if readable:
            show_cell(readable)
        st.page_link(
            page_file("study"), label="The six matrices of the 2022 study", icon=":material/history_edu:"
        )

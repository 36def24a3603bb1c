"""Ladder: from the released code of the 2022 study to preset default, one setting at a time."""

from datetime import datetime

import streamlit as st

from mer.experiments.study2022.ladder import climbed, ladders
from mer.runs.run import Run
from pages._ui.cached.datasets import pick_data
from pages._ui.cached.results import predictions, scores
from pages._ui.cached.runs import all_runs
from pages._ui.frame import page
from pages._ui.parts.ladder import ask_ladder, show_published, show_steps, show_work
from pages._ui.parts.run_buttons import acted, show_outcome
from pages._ui.parts.run_row import moving, states
from pages._ui.shell.errors import guarded
from pages._ui.shell.links import chosen, page_file, remember
from pages._ui.shell.permission import shown
from pages._ui.shell.style import plain

POLL = 2.0  # s


def title(runs: list[Run]) -> str:
    """A ladder in a few words."""
    first = runs[0]
    network = first.spec.get("config", {}).get("train", {}).get("backbone", "?")
    data = first.tags.get("mer.data_name", "data set not read yet")
    began = datetime.fromtimestamp(first.started).astimezone().strftime("%Y-%m-%d %H:%M")
    return f"{network} · {data}{' (synthetic)' if first.synthetic else ''} · {began}"


def show_ladder(name: str, known: dict[str, str]) -> None:
    """One ladder: running rungs, the effect of each change, and a matrix of the study for comparison."""
    with guarded():
        runs = ladders(all_runs()).get(name, [])
        if acted() or states(runs) != known:
            st.rerun()
        if not runs:
            st.info("The runs of this ladder have been deleted.")
            return
        show_work(runs)
        steps = climbed(runs, scores, predictions)
        if any(step.scores for step in steps):
            show_steps(steps)
        show_published(steps)


with page("Ladder"):
    st.title("The ladder")
    st.write(
        "The code released with the 2022 study differs from its report. The ladder starts from that code and "
        "ends at this project's preset *best on real music* (`default`). **Each rung changes one thing and "
        "keeps the changes before it**, so you see what each change is worth on your data. All rungs are "
        "tested on the same clips, from songs outside their training data. The last two rows use the study's "
        "own shuffle, and so other test clips."
    )
    show_outcome()
    found = ladders(all_runs())
    with st.expander("A new ladder", expanded=not found, icon=":material/stairs:"):
        if entry := pick_data():
            ask_ladder(entry)
    if found:
        titles = {name: title(runs) for name, runs in found.items()}
        chosen("ladder", list(found), what="ladder", called=titles.__getitem__)
        name = st.selectbox("Ladder", list(found), format_func=titles.__getitem__, key="ladder")
        remember("ladder", name[:8])
        st.caption(plain(shown(f"{len(found[name])} runs on {found[name][0].spec.get('data', '')}")))
        st.fragment(show_ladder, run_every=POLL if moving(found[name]) else None)(name, states(found[name]))
    st.page_link(page_file("study"), label="The 2022 study", icon=":material/history_edu:")

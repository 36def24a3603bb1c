"""Results of finished leak checks and control runs, which show whether scores can be believed."""

from collections.abc import Sequence

import streamlit as st

from mer.experiments.leaks import Leak, leak_of, pairs
from mer.experiments.verdicts import Control, control_of
from mer.runs.run import Run
from mer.utils.files import home as mer_home
from pages._ui.cached.results import Tested, beside, finished_runs, predictions
from pages._ui.charts.base import draw, forest
from pages._ui.shell.links import chosen, page_file, remember
from pages._ui.shell.style import counted, percent, plain, titled

__all__ = ["show_check_results", "verdict_of"]

NETWORK, SVM = "network", "SVM"


def show_check_results(group: Tested) -> None:
    """Results of the leak checks and control runs on the data set of a group of runs."""
    st.subheader("Can these scores be believed?")
    runs = [run for run in finished_runs() if _data(run) == _data(group.runs[0])]
    leaks, controls = pairs(runs), [run for run in runs if run.control]
    if leaks:
        _show_leak(leaks)
    if controls:
        _show_controls(controls)
    missing = [name for name, found in (("leak check", leaks), ("control run", controls)) if not found]
    if missing:
        st.caption(f"No finished {' and no '.join(missing)} on this data set yet. Launch both on Train.")
        st.page_link(page_file("train"), label="Check the pipeline", icon=":material/rule:")


def verdict_of(run: Run) -> Control | None:
    """The verdict on a control run; None if it saved no predictions. Raises RunError if they are damaged."""
    rows = predictions(run)
    return control_of(run.spec["config"]["split"]["control"], run.id, run.metrics, rows) if rows else None


def _data(run: Run) -> list[str | None]:
    """The data set of a run; a control run has the same as the run it checks."""
    return [run.spec.get(name) for name in ("data", "label_column", "song_column", "song_pattern")]


def _show_leak(leaks: Sequence[tuple[Run, Run]]) -> None:
    """Compare a run with songs kept apart and the same with songs on both sides of the split."""
    titles = {kept.id: f"{titled(kept)} and {parted.id[:8]}" for kept, parted in leaks}
    chosen("leak", list(titles))
    key = st.selectbox("Leak check", list(titles), format_func=titles.__getitem__, key="leak")
    remember("leak", key[:8])
    kept, parted = next(pair for pair in leaks if pair[0].id == key)
    found = _leaks(str(mer_home()), kept.id, parted.id, kept, parted)
    if not found:
        st.info("These runs have no saved predictions. Train them again.")
        return
    rows = {
        f"{name}, songs {where}": score
        for name, leak in found.items()
        for where, score in (("kept apart", leak.kept), ("on both sides", leak.parted))
    }
    chart = forest(
        list(rows),
        list(rows.values()),
        chance=None,
        majority=None,
        title="Accuracy by song with 95% interval",
    )
    draw(chart, key="leak chart")
    for name, leak in found.items():
        st.markdown(
            plain(
                f"With songs on both sides the {name} scores {leak.parted} instead of {leak.kept}, "
                f"{leak.verdict.difference.points}. {leak.meaning}"
            )
        )


@st.cache_data(max_entries=30, show_spinner="Comparing the two runs …")
def _leaks(home: str, kept_id: str, parted_id: str, _kept: Run, _parted: Run) -> dict[str, Leak]:
    """The leak of the network and, if both runs have one, of the SVM."""
    found = {}
    for name, read in ((NETWORK, predictions), (SVM, beside)):
        rows = [read(run) for run in (_kept, _parted)]
        if all(rows):
            found[name] = leak_of(*rows)
    return found


def _show_controls(runs: Sequence[Run]) -> None:
    """Control runs with their verdicts."""
    found = {titled(run): verdict for run in runs if (verdict := verdict_of(run))}
    broken = [verdict for verdict in found.values() if verdict.above]
    for verdict in broken:
        st.error(plain(verdict.verdict), icon=":material/rule:")
    if found and not broken:
        st.success(
            f"{counted(len(found), 'control run')}, none of which scores above guessing, as expected.",
            icon=":material/rule:",
        )
    rows = [
        {
            "control run": title,
            "by song (95% interval)": "; ".join(f"{name} {own}" for name, own in one.scores.items()),
            "guessing": percent(one.guess),
            "verdict": one.verdict,
        }
        for title, one in found.items()
    ]
    if rows:
        st.dataframe(rows, hide_index=True, key="controls")
        st.caption(
            "Nothing can be learned from shuffled labels, silence or noise. If a whole interval lies above "
            "guessing, scores cannot be trusted: test labels leak, or something other than music was learned."
        )

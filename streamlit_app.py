"""The dashboard's front door: which data, runs and checkpoints there are. Imports no torch."""

from datetime import datetime
from pathlib import Path

import streamlit as st

from mer.cards import find_checkpoints
from mer.errors import MerError
from mer.files import home
from mer.tracking import RunStore

SHIPPED = Path(__file__).parent / "checkpoints"
RUN_SCORES = ("test_song_accuracy", "test_song_accuracy_low", "test_song_accuracy_high", "n_songs")


def show_models() -> None:
    """The checkpoints that came with the project."""
    st.subheader("Models")
    rows = [
        {
            "model": card.title,
            "emotions": ", ".join(card.classes),
            "test accuracy by song": _of_card(card.metrics),
            "folder": str(folder),
        }
        for folder, card in find_checkpoints(SHIPPED)
    ]
    if rows:
        st.dataframe(rows, hide_index=True)
        st.caption("Try one: `python -m mer predict FOLDER FILE`")
    else:
        st.info("No shipped models found in `checkpoints/`.")


def _of_card(scores: dict) -> str:
    low, high = scores.get("intervals", {}).get("song_accuracy", (None, None))
    return _percent(scores.get("song_accuracy"), low, high, scores.get("n_songs"))


def _percent(score: float | None, low: float | None, high: float | None, songs: float | None) -> str:
    if None in (score, low, high, songs):
        return "not measured"
    return f"{score:.0%} ({100 * low:.0f} to {100 * high:.0f}), {songs:.0f} songs"


def show_runs() -> None:
    """The newest runs, and the data sets that runs were trained on."""
    runs = RunStore.open().runs() if (home() / "mlflow.db").exists() else []
    st.subheader("Runs")
    if not runs:
        st.info("No runs yet. Start one: `python -m mer train --data demo --preset quick`")
    else:
        rows = [
            {
                "run": run.id[:8],
                "name": run.name,
                "status": run.status,
                "started": f"{datetime.fromtimestamp(run.started):%Y-%m-%d %H:%M}",
                "test accuracy by song": _percent(*(run.metrics.get(key) for key in RUN_SCORES)),
            }
            for run in runs[:50]
        ]
        st.dataframe(rows, hide_index=True)
    st.subheader("Data")
    found = {run.data_hash: run for run in runs if run.data_hash}
    if not found:
        st.info("No data used yet. Make some: `python -m mer data demo --out demo`")
        return
    rows = [
        {
            "data": run.tags["mer.data_name"] + (" (synthetic)" if run.synthetic else ""),
            "place": run.spec.get("data"),
        }
        for run in found.values()
    ]
    st.dataframe(rows, hide_index=True)


st.set_page_config(page_title="mer", page_icon=":material/music_note:", layout="wide")
st.title("Which emotion does this music induce?")
st.write(
    "Fine-tune networks pretrained on images to hear emotions in clips of Hindi film music, "
    "and see how far their answers can be trusted."
)
for section in (show_models, show_runs):
    try:
        section()
    except MerError as error:
        st.error(str(error))

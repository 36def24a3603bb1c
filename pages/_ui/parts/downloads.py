"""Downloads of predictions as CSV and JSON."""

import json
from typing import TYPE_CHECKING

import streamlit as st

from mer.utils.csv import as_csv

if TYPE_CHECKING:
    from mer.inference.predictor import Prediction

__all__ = ["offer_predictions"]


def offer_predictions(found: list[tuple[str, str, "Prediction"]]) -> None:
    """Download buttons for (file, model, prediction): a CSV with a row per window, a JSON with everything."""
    rows = [
        {"file": name, "model": model, "part": part, "start_s": start, "end_s": end}
        | {label: round(value, 4) for label, value in probabilities.items()}
        for name, model, prediction in found
        for part, start, end, probabilities in _parts(prediction)
    ]
    labels = sorted({label for *_, prediction in found for label in prediction.probabilities})
    full = [dict.fromkeys([*list(rows[0])[:5], *labels], "") | row for row in rows]
    data = [{"file": name, "model": model} | prediction.to_dict() for name, model, prediction in found]
    with st.container(horizontal=True):
        st.download_button("CSV", as_csv(full), "predictions.csv", "text/csv", icon=":material/download:")
        text = json.dumps(data, ensure_ascii=False, indent=1)
        st.download_button("JSON", text, "predictions.json", "application/json", icon=":material/download:")


def _parts(prediction: "Prediction") -> list[tuple[str, float, float, dict[str, float]]]:
    whole = ("whole clip", prediction.windows[0].start, prediction.windows[-1].end, prediction.probabilities)
    return [whole, *(("window", w.start, w.end, w.probabilities) for w in prediction.windows)]

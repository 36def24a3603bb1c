"""Explanations: a Grad-CAM map over the spectrogram, its sound, and a deletion test."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from mer.config.sections import MelConfig
from pages._ui.cached.models import Model, predictor
from pages._ui.charts.base import draw
from pages._ui.charts.sound import deletion_curves, explained, thin
from pages._ui.parts.clip import analyse
from pages._ui.shell.errors import guarded
from pages._ui.shell.permission import spend
from pages._ui.shell.style import bilingual, percent, plain
from pages._ui.shell.turns import in_turn

if TYPE_CHECKING:
    from mer.inference.deletion import Deletion

__all__ = ["offer_explanation", "show_explanation"]

WHOLE = -1
MOST_WINDOWS = 12  # of a clip that is explained as a whole; that takes a minute, or two for joined networks


@dataclass(frozen=True, slots=True)
class Shown:
    """The data of an explanation; the map is in whole percent of its maximum."""

    probability: float
    start: float
    end: float
    level: np.ndarray
    relevance: np.ndarray
    mel: MelConfig
    heard: bytes
    rest: bytes
    deletion: "Deletion | None"


@st.cache_data(max_entries=8, show_spinner="Explaining …")
def _explain(content: bytes, name: str, key: str, emotion: str, window: int | None, _model: Model) -> Shown:
    from mer.inference.explain import explain
    from mer.inference.masking import as_wav

    spend("explanations")
    network = predictor(_model)
    with in_turn():
        found = explain(network, content, name=name, emotion=emotion, window=window)
    return Shown(
        probability=found.probability,
        start=found.start,
        end=found.end,
        level=thin(found.level),
        relevance=thin(100 * found.relevance),
        mel=network.networks[0].card.config.mel,
        heard=as_wav(found.heard, found.rate),
        rest=as_wav(found.rest, found.rate),
        deletion=found.deletion,
    )


@st.fragment  # so that a clip goes on playing
def offer_explanation(content: bytes, name: str, model: Model, *, key: str, window: int | None) -> None:
    """Show a switch for the explanation, which is computed only when it is on.

    Parameters
    ----------
    content, name
        The audio file, and its name for errors.
    model
        The model to explain.
    key
        Prefix of the widgets' keys.
    window
        Number of the window to explain first; None for the whole clip.
    """
    if st.toggle("Explain", key=f"{key} explain"):
        with guarded():
            show_explanation(content, name, model, key=key, window=window)


def show_explanation(content: bytes, name: str, model: Model, *, key: str, window: int | None = None) -> None:
    """Show the evidence in a clip for an emotion. The last few explanations are cached.

    Parameters
    ----------
    content, name, model, key, window
        See `offer_explanation`.

    Raises
    ------
    AudioError, CheckpointError, BackboneError
        If the clip or the model cannot be used.
    """
    prediction, classes = analyse(content, name, model).prediction, list(model.card.classes)
    windows = prediction.windows
    parts = {number: f"{w.start:g} to {w.end:g} s" for number, w in enumerate(windows)}
    if len(windows) <= MOST_WINDOWS:
        parts = {WHOLE: "the whole clip"} | parts
    columns = st.columns(2)
    emotion = columns[0].selectbox(
        "Evidence for", classes, classes.index(prediction.emotion), format_func=bilingual,
        key=f"{key} explained",
    )  # fmt: skip
    part = WHOLE
    if len(windows) > 1:
        first = list(parts).index(window) if window in parts else 0
        part = columns[1].selectbox(
            "in", list(parts), first, format_func=parts.__getitem__, key=f"{key} part {window}"
        )
    found = _explain(
        content, name, f"{model.folder} {model.changed()}", emotion, None if part == WHOLE else part, model
    )
    _show(found, emotion, key=key)


def _show(shown: Shown, emotion: str, *, key: str) -> None:
    """Map, sounds, and the deletion test of the map."""
    if shown.deletion is None:
        st.info(
            f"There is no evidence for {plain(emotion)} here; the network gives it "
            f"{percent(shown.probability)}. Choose another emotion."
        )
        return
    picture = explained(
        shown.level, shown.relevance, span=(shown.start, shown.end), config=shown.mel,
        title=f"Evidence for {emotion}",
    )  # fmt: skip
    draw(picture, key=f"{key} map")
    st.caption(
        "Grad-CAM: warmer places are stronger evidence for the emotion. The line is at half of the maximum. "
        "The map resolves a second at best, so look at regions, not at edges."
    )
    left, right = st.columns(2)
    with left:
        st.markdown("**Marked region**")
        st.audio(shown.heard, format="audio/wav", alt="Marked region")
        st.markdown("**Everything else**")
        st.audio(shown.rest, format="audio/wav", alt="Everything else")
    with right:
        draw(deletion_curves(shown.deletion, emotion), key=f"{key} deletion")
        st.caption(plain(shown.deletion.verdict))

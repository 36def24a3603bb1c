"""One clip: its player, spectrogram and prediction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from mer.audio.decode import hear, load
from mer.audio.mel import log_mel
from mer.config.sections import Config, MelConfig
from mer.utils.errors import AudioError
from pages._ui.cached.models import Model, predictor
from pages._ui.charts.base import draw
from pages._ui.charts.over_time import attention, stacked, timeline
from pages._ui.charts.sound import Envelope, envelope, probability_bars, spectrogram, thin, waveform
from pages._ui.parts.player import player
from pages._ui.shell.errors import guarded
from pages._ui.shell.permission import shown, spend
from pages._ui.shell.style import bilingual, card_score, percent, plain
from pages._ui.shell.turns import in_turn

if TYPE_CHECKING:
    from mer.inference.predictor import Prediction

__all__ = ["Analysis", "analyse", "listen", "picture_of", "show_analysis", "show_model"]

LONGEST = 900.0  # s; longer clips of a few visitors at once could fill the memory


@dataclass(frozen=True, slots=True)
class Analysis:
    """A prediction and the data of its charts, whose size does not grow with the length of the clip."""

    prediction: "Prediction"
    level: np.ndarray
    shown: Envelope
    mel: MelConfig
    window_seconds: float


@st.cache_data(max_entries=64, show_spinner="Predicting …")
def _analyse(content: bytes, name: str, key: str, _model: Model) -> Analysis:
    spend("predictions")
    network = predictor(_model)
    config = network.card.config
    with in_turn():
        sound = hear(content, config.audio, name=name, max_seconds=LONGEST)
        samples = sound.waveform
        level = log_mel(samples, sample_rate=config.audio.sample_rate, config=config.mel.in_decibels).numpy()
        shown = envelope(samples, config.audio.sample_rate)
        found = network.answer(samples, sound.remarks)
    return Analysis(found, thin(level), shown, config.mel, config.audio.window_seconds)


def analyse(content: bytes, name: str, model: Model) -> Analysis:
    """Predict a clip with a model. The results for the last clips are cached.

    Parameters
    ----------
    content, name
        The audio file, and its name for errors.
    model
        The model.

    Raises
    ------
    AudioError, CheckpointError
        If the clip or the model cannot be used.
    """
    return _analyse(content, name, f"{model.folder} {model.changed()}", model)


def listen(content: bytes, name: str, models: Sequence[Model]) -> list[tuple[Model, Analysis]]:
    """Predict a clip with each model, and show errors. An unreadable clip gives one error for all models.

    Parameters
    ----------
    content, name
        The audio file, and its name for errors.
    models
        The models.

    Returns
    -------
    list of tuple
        (model, analysis) for each model that could be used.
    """
    found = []
    for model in models:
        with guarded():
            try:
                found.append((model, analyse(content, name, model)))
            except AudioError as error:
                st.error(plain(shown(str(error))), icon=":material/error:")
                break
    return found


@st.cache_data(max_entries=32, show_spinner=False)
def picture_of(content: bytes, name: str) -> go.Figure:
    """The log-mel spectrogram of a clip by the default settings. Raises AudioError."""
    config = Config()
    rate = config.audio.sample_rate
    with in_turn():
        samples = load(content, config.audio, name=name)
        level = log_mel(samples, sample_rate=rate, config=config.mel.in_decibels).numpy()
    return spectrogram(level, seconds=len(samples) / rate, config=config.mel)


def show_model(model: Model) -> None:
    """Badges of a model, members of an ensemble, and the test accuracy."""
    licence = model.card.data.get("licence")
    with st.container(horizontal=True):
        if model.card.control:
            st.badge(f"control run: {model.card.control}", icon=":material/rule:", color="red")
        if model.card.leak:
            st.badge(model.card.leak, icon=":material/rule:", color="red")
        if model.card.synthetic:
            st.badge("model trained on synthetic music", icon=":material/science:", color="gray")
        elif licence:
            st.badge(plain(f"trained on music under {licence}"), icon=":material/copyright:", color="gray")
    if members := model.card.members:
        parts = (f"{part.title} (run {part.run[:8]}, weight {percent(part.weight)})" for part in members)
        st.caption(plain(f"It averages {', '.join(parts)}."))
    if measured := card_score(model.card.metrics, model.card.leak):
        st.caption(f"Accuracy on test songs: {measured}")


def show_analysis(
    content: bytes, name: str, analysis: Analysis, *, key: str, autoplay: bool = False
) -> int | None:
    """Show prediction, warnings, player, probabilities and the clip over time.

    Parameters
    ----------
    content, name
        The audio file, and its name for errors.
    analysis
        Its analysis.
    key
        Prefix of the widgets' keys.
    autoplay
        Start the player at once.

    Returns
    -------
    int or None
        The number of the window that was clicked, from which the player starts; None without a click.
    """
    found = analysis.prediction
    top = max(found.probabilities.values())
    st.subheader(f"{plain(bilingual(found.emotion))}, {percent(top)}")
    for remark in found.remarks:
        st.warning(f"Do not rely on this. {plain(remark)}", icon=":material/hearing_disabled:")
    if found.unsure:
        st.info(
            "Unsure: the two highest probabilities are within 10 points of each other.",
            icon=":material/help:",
        )
    left, right = st.columns([3, 2])
    with left:
        place = st.container()  # above the chart whose clicks it follows; st.empty would stop the player
        window = _show_time(analysis, key)
    with right:
        draw(probability_bars(found.probabilities), key=f"{key} bars")
        st.caption("Similar bars mean that the model is unsure.")
    start = 0.0 if window is None else found.windows[window].start
    with place:
        player(content, name, start_time=start, autoplay=autoplay or window is not None)
    return window


def _show_time(analysis: Analysis, key: str) -> int | None:
    """The clip over time; returns the number of the clicked window, None without a click."""
    found, length = analysis.prediction, analysis.shown.length
    charts = [spectrogram(analysis.level, seconds=length, config=analysis.mel, height=220)]
    words = "Bright is loud. Horizontal lines are held notes, vertical lines are drum hits."
    if found.windows[0].attention:
        seconds = analysis.window_seconds
        charts.append(attention(found.windows, length=length, window_seconds=seconds, height=60))
        words += " Moments above the dotted line of attention count more than average."
    if len(found.windows) == 1:
        draw(stacked(charts, title="Log-mel spectrogram"), key=f"{key} time")
        st.caption(words)
        return None
    charts += [waveform(analysis.shown, height=70), timeline(found.windows, height=130)]
    whole = stacked(charts, title="Spectrogram, waveform and emotion over time")
    picked = draw(whole, key=f"{key} time", on_select="rerun", selection_mode="points")
    st.caption(
        f"{words} Each point at the bottom is one window of the clip. Click one to play the clip from there. "
        "Drag to zoom, double-click to zoom out."
    )
    numbers = [point.get("customdata") for point in picked["selection"]["points"]]
    return next((number for number in numbers if number in range(len(found.windows))), None)

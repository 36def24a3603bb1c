"""From the raw clip to the input of the network, step by step, with sliders."""

from collections.abc import Iterator

import plotly.graph_objects as go
import streamlit as st

from mer.audio.preview import Steps, steps
from mer.config.sections import Config
from mer.utils.errors import ConfigError
from pages._ui.charts.base import draw
from pages._ui.charts.sound import envelope, image, spectrogram, waveform
from pages._ui.shell.style import counted, plain
from pages._ui.shell.turns import in_turn

__all__ = ["show_steps"]

BANDS, FFTS, HOPS = (
    (32, 64, 96, 128, 160, 192, 224, 256),
    (256, 512, 1024, 2048, 4096),
    (64, 128, 256, 512, 1024),
)


def show_steps(content: bytes, name: str) -> None:
    """Sliders, then the six steps as charts in two rows. Raises AudioError."""
    config, state = _sliders(), st.session_state
    found = _steps(content, name, config.to_json(), state.get("window", 1) - 1)
    number = state["window"] = min(state.get("window", 1), found.n_windows)
    if found.n_windows > 1:
        st.slider("Window", 1, found.n_windows, key="window")
    shown = [*_waves(found, config, number), *_pictures(found, config)]
    for row in (shown[:3], shown[3:]):
        for column, (figure, words) in zip(st.columns(3), row, strict=True):
            with column:
                draw(figure, key=f"step {figure.layout.title.text[0]}")
                st.caption(words)


def _waves(found: Steps, config: Config, number: int) -> Iterator[tuple[go.Figure, str]]:
    """Waveforms: raw, resampled, and cut to a window, each with its caption."""
    rate, raw = config.audio.sample_rate, found.raw
    filled = f", {found.padding:.1f} s of it padding" if found.padding else ""
    cut = f"{found.start:g} to {found.start + config.audio.window_seconds:g} s{filled}"
    yield (
        waveform(envelope(raw.waveform, raw.rate), title="1 · Raw", height=220),
        f"As in the file: {raw.seconds:.1f} s, {raw.rate} Hz, {counted(raw.channels, 'channel')}.",
    )
    yield (
        waveform(envelope(found.resampled, rate), title=f"2 · {rate // 1000} kHz, mono", height=220),
        f"Channels averaged and resampled; frequencies above {rate / 2000:g} kHz are removed.",
    )
    yield (
        waveform(envelope(found.window, rate), title="3 · Window", height=220),
        f"Window {number} of {found.n_windows}: {cut}.",
    )


def _pictures(found: Steps, config: Config) -> Iterator[tuple[go.Figure, str]]:
    """Images: log-mel, resized, and normalised, each with its caption."""
    rate, seconds, mel = config.audio.sample_rate, config.audio.window_seconds, config.mel
    yield (
        spectrogram(found.level, seconds=seconds, config=mel, title="4 · Log-mel", height=280),
        (
            f"{mel.n_mels} bands, FFT {mel.n_fft} ({1000 * mel.n_fft / rate:.0f} ms), "
            f"hop {mel.hop_length} ({1000 * mel.hop_length / rate:.0f} ms): {found.level.shape[1]} spectra."
        ),
    )
    yield (
        image(found.image, unit="dB", title=f"5 · {mel.image_size} × {mel.image_size}", height=280),
        "Resized to the square input of networks pretrained on images.",
    )
    yield (
        image(found.standardized, unit="σ", title="6 · Normalised", height=280),
        (
            f"The input of a network: mean {found.standardizer.mean:.1f} dB subtracted, divided by the "
            f"standard deviation {found.standardizer.std:.1f} dB, repeated for three channels. In training "
            "both come from the training clips, here from this clip."
        ),
    )


def _sliders() -> Config:
    """Settings of the spectrogram; invalid combinations give a warning and the defaults."""
    config = Config()
    columns = st.columns(3)
    bands = columns[0].select_slider(
        "Mel bands",
        BANDS,
        config.mel.n_mels,
        key="bands",
        help="Rows of the image. More bands resolve pitch more finely.",
    )
    fft = columns[1].select_slider(
        "FFT (samples)", FFTS, config.mel.n_fft, key="fft",
        help="Longer resolves pitch more finely, shorter resolves time more finely.",
    )  # fmt: skip
    hop = columns[2].select_slider(
        "Hop (samples)", HOPS, config.mel.hop_length, key="hop", help="Distance between two spectra."
    )
    try:
        return config.updated(n_mels=bands, n_fft=fft, hop_length=hop)
    except ConfigError as error:
        st.warning(plain(str(error)))
        return config


@st.cache_data(max_entries=48, max_size="200 MB", show_spinner=False)
def _steps(content: bytes, name: str, config_text: str, window: int) -> Steps:
    config = Config.from_json(config_text)
    with in_turn():
        return steps(content, audio=config.audio, mel=config.mel, window=window, name=name)

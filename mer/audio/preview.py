"""The steps from an audio file to the network input, for display."""

from dataclasses import dataclass

import numpy as np
import torch

from mer.audio.decode import Audio, Source, decode
from mer.audio.mel import Standardizer, images, log_mel
from mer.audio.resampling import resample
from mer.audio.waveforms import as_whole
from mer.audio.windows import sounding_starts, windows
from mer.config.sections import AudioConfig, MelConfig

__all__ = ["Steps", "frequency_ticks", "steps"]

MOST_WINDOWS = 10**9  # more than any clip has
TICKS = (125, 250, 500, 1000, 2000, 4000, 8000)  # Hz


def frequency_ticks(hertz: np.ndarray) -> tuple[list[float], list[str]]:
    """Positions and labels of frequency ticks on an axis of band numbers.

    `hertz` (bands,) holds the centre frequency of each band; band 0 is at position 0.
    """
    ticks = [tick for tick in TICKS if hertz[0] <= tick <= 1.03 * hertz[-1]]
    places = np.interp(ticks, hertz, np.arange(len(hertz))).round(2).tolist()
    return places, [f"{tick // 1000}k" if tick >= 1000 else str(tick) for tick in ticks]


@dataclass(frozen=True, slots=True)
class Steps:
    """One window of a clip at each step.

    Parameters
    ----------
    raw
        The decoded clip.
    resampled
        The whole clip at the sample rate of the config, of shape (samples,).
    window
        The window, of shape (window samples,).
    start
        Start of the window, s.
    padding
        Duration of padding in the window, s.
    n_windows
        Number of windows in the clip.
    level
        Log-mel spectrogram of the window, dB, of shape (n_mels, frames).
    image
        The spectrogram resized, dB, of shape (size, size).
    standardizer
        The standardizer that was applied.
    standardized
        The standardised image, of shape (size, size).
    """

    raw: Audio
    resampled: np.ndarray
    window: np.ndarray
    start: float
    padding: float
    n_windows: int
    level: np.ndarray
    image: np.ndarray
    standardizer: Standardizer
    standardized: np.ndarray


def steps(
    source: Source,
    *,
    audio: AudioConfig,
    mel: MelConfig,
    standardizer: Standardizer | None = None,
    window: int = 0,
    name: str | None = None,
) -> Steps:
    """Compute each step for one window of a clip.

    Parameters
    ----------
    source
        Path of an audio file, or its content as bytes.
    audio
        Sample rate and windows.
    mel
        Settings of the spectrogram and the image.
    standardizer
        Standardisation of the image; by default fitted on this clip.
    window
        Number of the window, from 0. The last window is taken if the clip has fewer.
    name
        Name of the clip in error messages; the path by default.

    Raises
    ------
    AudioError
        If the clip cannot be used.
    ConfigError
        If `window` is not a whole number from 0.
    """
    window = as_whole(window, "window", low=0, high=MOST_WINDOWS)
    raw = decode(source, name=name)
    resampled = resample(raw.waveform, rate=raw.rate, audio=audio)
    starts = sounding_starts(resampled, audio)
    number = min(window, len(starts) - 1)
    cut = list(windows(resampled, audio, checked=True))[number]
    pictures = images(resampled, audio=audio, mel=mel, checked=True)
    standardizer = standardizer or Standardizer.fit([pictures])
    picture = pictures[number].astype(np.float32)
    start = starts[number] / audio.sample_rate
    return Steps(
        raw=raw,
        resampled=resampled,
        window=cut,
        start=start,
        padding=max(0.0, audio.window_seconds - len(resampled) / audio.sample_rate),
        n_windows=len(starts),
        level=log_mel(cut, sample_rate=audio.sample_rate, config=mel, checked=True).numpy(),
        image=picture,
        standardizer=standardizer,
        standardized=standardizer(torch.from_numpy(picture)).numpy(),
    )

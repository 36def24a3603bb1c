"""Cuts a clip into windows, and leaves out those that hold only silence.

Nothing can be learned from silence, and its answer would count as much as that of a window with music.
"""

from collections.abc import Iterator

import numpy as np

from mer.audio.silence import quiet_frames
from mer.audio.waveforms import MIN_SECONDS, as_samples, as_whole
from mer.config.sections import AudioConfig

__all__ = ["sounding_starts", "window_starts", "windows"]

MOST_SAMPLES = 2**32


def _window_samples(config: AudioConfig) -> int:
    return round(config.window_seconds * config.sample_rate)


def window_starts(n_samples: int, config: AudioConfig) -> list[int]:
    """Index of the first sample of each window of a clip.

    Windows start every `hop_seconds`. If more than 0.5 s at the end is not covered, one more window is added
    that ends with the clip. There is one window, from 0, if the clip is no longer than a window or
    `only_first` is set. Raises ConfigError if `n_samples` is not a whole number from 0 to 2^32.
    """
    n_samples = as_whole(n_samples, "n_samples", low=0, high=MOST_SAMPLES)
    if config.only_first:
        return [0]
    size, hop = _window_samples(config), round(config.hop_seconds * config.sample_rate)
    starts = list(range(0, max(n_samples - size, 0) + 1, hop))
    if n_samples - (starts[-1] + size) > MIN_SECONDS * config.sample_rate:
        starts.append(n_samples - size)
    return starts


def sounding_starts(waveform: np.ndarray, config: AudioConfig) -> list[int]:
    """Index of the first sample of each window of a waveform that is not silent as a whole.

    All windows if each of them is silent, or with `only_first`.
    """
    starts = window_starts(len(waveform), config)
    if len(starts) == 1:
        return starts
    quiet, size = quiet_frames(waveform, config.sample_rate)
    length = _window_samples(config)
    return [one for one in starts if not quiet[one // size : -(-(one + length) // size)].all()] or starts


def _pad(waveform: np.ndarray, size: int, mode: str) -> np.ndarray:
    if len(waveform) >= size:
        return waveform
    if mode == "repeat":
        return np.resize(waveform, size)
    return np.pad(waveform, (0, size - len(waveform)))


def windows(waveform: np.ndarray, config: AudioConfig, *, checked: bool = False) -> Iterator[np.ndarray]:
    """Cut a clip into the windows of `sounding_starts`, padding a clip that is shorter than one.

    Parameters
    ----------
    waveform
        Samples at `config.sample_rate`; see `mer.audio.waveforms.as_samples`.
    config
        Length of the windows, hop and padding.
    checked
        True if `as_samples` has already been called.

    Returns
    -------
    Iterator[np.ndarray]
        Windows, float32 of shape (window_seconds * sample_rate,).

    Raises
    ------
    AudioError
        If the waveform cannot be used.
    """
    waveform = waveform if checked else as_samples(waveform)
    size = _window_samples(config)
    padded = _pad(waveform, size, config.pad)
    return (padded[start : start + size] for start in sounding_starts(waveform, config))

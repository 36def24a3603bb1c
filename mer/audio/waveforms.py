"""Converts input from callers (sources, waveforms, numbers) to the form used inside, or refuses it.

A waveform is mono float32 in [-1, 1] of shape (samples,). Integers are scaled so that full scale is 1. In a
two-dimensional array the axis with at most 8 entries holds the channels, which are averaged.
"""

import math
import os
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from mer.audio.phase import chosen
from mer.utils.errors import AudioError, ConfigError
from mer.utils.files import as_path

__all__ = [
    "MAX_CHANNELS",
    "MAX_FRAMES",
    "MAX_SECONDS",
    "MIN_SECONDS",
    "RATE_RANGE",
    "as_clip",
    "as_number",
    "as_rate",
    "as_samples",
    "as_source",
    "as_whole",
    "check_form",
    "check_heard",
    "check_samples",
    "scaled",
]

MIN_SECONDS = 0.5  # of a clip; also the longest tail that may stay outside all windows
MAX_CHANNELS = 8
MAX_SECONDS = 3600.0  # longer clips are refused before they are read
MAX_FRAMES = 2**28  # 1 GB as mono float32, an hour at up to 74 kHz; a small FLAC file can hold ten times that
RATE_RANGE = (1000, 768_000)  # Hz
LARGEST = 2**53  # floats hold all whole numbers up to it exactly
SILENCE_PEAK = 1e-4  # -80 dBFS
LOUDEST = 2.0**32  # above any integer full scale; the power of such samples stays finite

WANTED = "give a numpy array or a tensor, float32 (samples,)"
SCALED = {"uint8": 7, "int8": 7, "int16": 15, "int32": 31}  # full scale is 2**bits; uint8 is centred on 128


def as_source(source: Any) -> Path | bytes:
    """A path (`str` or `os.PathLike`) as Path, or the content of a file as bytes.

    Raises AudioError for anything else, such as samples or an open file.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if isinstance(source, str | os.PathLike):
        return as_path(source)
    raise AudioError(
        f"a {type(source).__name__} is neither a path nor the bytes of a file; give a str, a pathlib.Path or "
        "bytes, or hand samples to predict_waveform"
    )


def as_samples(sound: Any, *, name: str = "waveform", least: int = 1) -> np.ndarray:
    """Convert sound to a waveform: float32 (samples,), contiguous and writable.

    The waveform may be short or silent; `as_clip` refuses those.

    Parameters
    ----------
    sound
        Numpy array or torch tensor: floats with full scale at 1, int8, int16 or int32, or uint8 centred on
        128. Shape (samples,), or (samples, channels) or (channels, samples) with at most 8 channels. An array
        that already is float32 (samples,) is not copied.
    name
        Name of the sound in error messages.
    least
        Fewest samples accepted.

    Raises
    ------
    AudioError
        If the type or shape is another one, there are fewer than `least` or more than 2^28 samples, or
        samples are NaN, infinite or far above full scale.

    """
    array = _array(sound, name)
    if array.ndim == 2:
        array = _channels_last(array, name)
    frames = len(array)
    if frames > MAX_FRAMES:
        raise AudioError(f"{name}: {frames} samples, more than {MAX_FRAMES}; cut it")
    if frames < least:
        raise AudioError(f"{name}: {_short(frames, least)}")
    if array.dtype.kind == "f" and array.size:
        check_level(array, name)
    return np.require(_mono(array), np.float32, "CAWE")


def as_clip(sound: Any, *, rate: int, name: str = "waveform", max_seconds: float = MAX_SECONDS) -> np.ndarray:
    """Convert a whole clip as `as_samples` does, with the limits that apply to a file.

    Parameters
    ----------
    sound
        See `as_samples`.
    rate
        Sample rate, Hz.
    name
        Name of the sound in error messages.
    max_seconds
        Longest duration accepted, s.

    Raises
    ------
    AudioError
        As `as_samples`, and if the clip is shorter than 0.5 s, longer than `max_seconds` or silent.
    """
    samples = as_samples(sound, name=name)
    check_seconds(len(samples), rate, name, max_seconds)
    check_heard(samples, name)
    return samples


def as_rate(rate: Any, name: str = "sample_rate") -> int:
    """A sample rate as int, 1000 to 768,000 Hz. Raises ConfigError for all else, such as 16000.5 or True."""
    return as_whole(rate, name, low=RATE_RANGE[0], high=RATE_RANGE[1], unit=" Hz")


def as_whole(value: Any, name: str, *, low: float = -LARGEST, high: float = LARGEST, unit: str = "") -> int:
    """A whole number from `low` to `high` as int; 2.0 is accepted. Raises ConfigError for anything else."""
    number = as_number(value, name, low=low, high=high, unit=unit)
    if number != int(number):
        raise ConfigError(f"{name}={value!r}{unit} is no whole number: {low:g} <= {name} <= {high:g}")
    return int(value)


def as_number(value: Any, name: str, *, low: float, high: float, unit: str = "") -> float:
    """A number from `low` to `high` as float. Raises ConfigError for all else, such as NaN or True."""
    wanted = f"{low:g} <= {name} <= {high:g}"
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real | Integral):
        raise ConfigError(f"{name} is a {type(value).__name__}, not a number: {wanted}")
    if not low <= value <= high:  # NaN fails too
        try:
            shown = f"{value:g}"
        except OverflowError:  # an int too large for a float
            shown = "a huge number"
        raise ConfigError(f"{name}={shown}{unit} is out of range: {wanted}")
    return float(value)


def scaled(array: np.ndarray) -> np.ndarray:
    """Integers of a type in SCALED as floats with full scale 1; floats unchanged."""
    if array.dtype.kind == "f":
        return array
    bits, middle = SCALED[array.dtype.name], 128 if array.dtype == np.uint8 else 0
    wide = np.float64 if bits > 23 else np.float32
    return (array.astype(wide) - wide(middle)) * wide(2.0**-bits)


def check_form(rate: int, channels: int, name: str) -> None:
    """Raise AudioError unless the sample rate, Hz, and the number of channels of a file are possible."""
    low, high = RATE_RANGE
    if not low <= rate <= high:
        raise AudioError(f"{name}: sample rate {rate} Hz; use one from {low} to {high} Hz")
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioError(f"{name}: {channels} channels; use 1 to {MAX_CHANNELS}")


def check_samples(samples: np.ndarray, rate: int, name: str) -> None:
    """Raise AudioError if samples, (frames, channels) or (frames,), are empty, unusable or too short."""
    if len(samples) == 0:
        raise AudioError(f"{name}: empty, 0 samples; record or export it again")
    check_level(samples, name)
    check_seconds(len(samples), rate, name, math.inf)


def check_level(samples: np.ndarray, name: str) -> None:
    """Raise AudioError if samples are NaN, infinite or far above full scale."""
    peak = _peak(samples)
    if not np.isfinite(peak):
        raise AudioError(f"{name}: NaN or infinite samples; export it again")
    if samples.dtype.kind == "f" and peak > LOUDEST:
        raise AudioError(f"{name}: samples up to {peak:.0e}, where 1 is full scale; export it again")


def check_seconds(frames: int, rate: int, name: str, max_seconds: float) -> None:
    """Raise AudioError if a clip is shorter than 0.5 s or longer than `max_seconds`."""
    seconds = frames / rate
    if seconds < MIN_SECONDS:
        raise AudioError(f"{name}: {seconds:.2f} s, shorter than {MIN_SECONDS} s; use a longer excerpt")
    if seconds > max_seconds:
        raise AudioError(f"{name}: {seconds:.0f} s long; cut it to {max_seconds:.0f} s or less")


def check_heard(waveform: np.ndarray, name: str) -> None:
    """Raise AudioError if a waveform is silent: no sample reaches -80 dBFS."""
    if _peak(waveform) < SILENCE_PEAK:
        raise AudioError(f"{name}: silent, nothing above -80 dBFS; check the recording")


def _peak(samples: np.ndarray) -> float:
    """Largest absolute value; not finite if any value is not."""
    return max(float(samples.max()), -float(samples.min()))


def _short(frames: int, least: int) -> str:
    if frames:
        return f"{frames} samples, fewer than the {least} that this needs; use a longer excerpt"
    return "empty, 0 samples; record or export it again"


def _array(sound: Any, name: str) -> np.ndarray:
    """A tensor or array with one or two dimensions as an array; integers are not scaled yet."""
    kind = type(sound).__name__
    if hasattr(sound, "is_floating_point"):  # a tensor, recognised without importing torch
        try:
            tensor = sound.detach().cpu()
            sound = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        except (RuntimeError, TypeError, NotImplementedError) as error:
            raise AudioError(f"{name}: this {kind} has no samples that can be read; {WANTED}") from error
    if not isinstance(sound, np.ndarray):
        raise AudioError(f"{name}: a {kind} is no waveform; {WANTED}")
    if sound.dtype.kind != "f" and sound.dtype.name not in SCALED:
        raise AudioError(
            f"{name}: samples of type {sound.dtype} have no full scale; give float32, int16, int32 or uint8"
        )
    if sound.ndim not in (1, 2):
        raise AudioError(f"{name}: shape {sound.shape} is no waveform; {WANTED}")
    return sound


def _channels_last(array: np.ndarray, name: str) -> np.ndarray:
    """Order as (samples, channels): the axis of at most 8 holds the channels, or the last if both are."""
    frames, channels = array.shape
    if channels > MAX_CHANNELS >= frames:
        array = array.T
    elif channels > MAX_CHANNELS:
        raise AudioError(f"{name}: shape {array.shape} has no axis of 1 to {MAX_CHANNELS} channels; {WANTED}")
    if not array.shape[1]:
        raise AudioError(f"{name}: {_short(0, 1)}")
    return array


def _mono(array: np.ndarray) -> np.ndarray:
    """Scale integers to full scale 1, keep floats, and average the channels as those of a file are."""
    array = scaled(array)
    channel = chosen(array) if array.ndim == 2 else None
    if channel is not None:
        return array[:, channel]
    return array.mean(axis=1, dtype=np.result_type(array, np.float32)) if array.ndim == 2 else array

"""What a person hands in, turned into what the code works on, or refused in one line.

A waveform here is float32 in [-1, 1], shape (samples,), mono. Full scale of integers becomes 1. Of two
dimensions the one of at most 8 is that of the channels, which are mixed by their mean, like those of a file.
"""

import math
import os
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

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
    "check_heard",
    "check_samples",
]

MIN_SECONDS = 0.5  # a shorter clip is left out; a shorter uncovered tail gets no window of its own
MAX_CHANNELS = 8
MAX_SECONDS = 3600.0  # longer is refused unread, and so are
MAX_FRAMES = 2**28  # 1 GB of mono float32, an hour up to 74 kHz; a small FLAC file can hold ten times that
RATE_RANGE = (1000, 768_000)
LARGEST = 2**53  # whole numbers up to it are exact as floats
SILENCE_PEAK = 1e-4  # -80 dBFS
LOUDEST = 2.0**32  # more than any integer scale written as floats; powers of such samples stay finite

WANTED = "give a numpy array or a tensor, float32 (samples,)"
SCALED = {"uint8": 7, "int8": 7, "int16": 15, "int32": 31}  # bits of full scale; uint8 lies around 128


def as_source(source: Any) -> Path | bytes:
    """A path, given as `str` or `os.PathLike`, as Path; the bytes of a file as `bytes`.

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
    """A waveform float32 (samples,), contiguous and writable, which may be short or silent.

    Parameters
    ----------
    sound
        Numpy array or torch tensor: floats where full scale is 1, int8, int16 or int32, or uint8 around 128.
        Shape (samples,), or (samples, channels) or (channels, samples) with at most 8 channels. What is
        float32 (samples,) already is returned as it is, not copied.
    name
        What errors call it.
    least
        Fewest samples.

    Raises
    ------
    AudioError
        For another type or shape, fewer than `least` or more than 2^28 samples, NaN or infinity, or samples
        far above full scale.

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
    """`as_samples` of a whole clip at `rate` Hz, refused like a file if too short, too long or silent."""
    samples = as_samples(sound, name=name)
    check_seconds(len(samples), rate, name, max_seconds)
    check_heard(samples, name)
    return samples


def as_rate(rate: Any, name: str = "sample_rate") -> int:
    """A sample rate as int, 1000 to 768,000 Hz; raises ConfigError for another, also for 16000.5 and True."""
    return as_whole(rate, name, low=RATE_RANGE[0], high=RATE_RANGE[1], unit=" Hz")


def as_whole(value: Any, name: str, *, low: float = -LARGEST, high: float = LARGEST, unit: str = "") -> int:
    """A whole number of a range as int, also where it is given as 2.0; raises ConfigError for another."""
    number = as_number(value, name, low=low, high=high, unit=unit)
    if number != int(number):
        raise ConfigError(f"{name}={value!r}{unit} is no whole number: {low:g} <= {name} <= {high:g}")
    return int(value)


def as_number(value: Any, name: str, *, low: float, high: float, unit: str = "") -> float:
    """A number of a range as float; raises ConfigError for NaN, for True and False, and for no number."""
    wanted = f"{low:g} <= {name} <= {high:g}"
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real | Integral):
        raise ConfigError(f"{name} is a {type(value).__name__}, not a number: {wanted}")
    if not low <= value <= high:  # so is NaN
        try:
            shown = f"{value:g}"
        except OverflowError:  # a whole number that no float can hold
            shown = "a huge number"
        raise ConfigError(f"{name}={shown}{unit} is out of range: {wanted}")
    return float(value)


def check_samples(samples: np.ndarray, rate: int, name: str) -> None:
    """Refuse samples, shape (frames, channels) or (frames,), that are no sound. Raises AudioError."""
    if len(samples) == 0:
        raise AudioError(f"{name}: empty, 0 samples; record or export it again")
    check_level(samples, name)
    check_seconds(len(samples), rate, name, math.inf)


def check_level(samples: np.ndarray, name: str) -> None:
    """Refuse samples that are not numbers, or larger than any sound's. Raises AudioError."""
    peak = _peak(samples)
    if not np.isfinite(peak):
        raise AudioError(f"{name}: NaN or infinite samples; export it again")
    if samples.dtype.kind == "f" and peak > LOUDEST:
        raise AudioError(f"{name}: samples up to {peak:.0e}, where 1 is full scale; export it again")


def check_seconds(frames: int, rate: int, name: str, max_seconds: float) -> None:
    """Refuse a clip that is too short or too long. Raises AudioError."""
    seconds = frames / rate
    if seconds < MIN_SECONDS:
        raise AudioError(f"{name}: {seconds:.2f} s, shorter than {MIN_SECONDS} s; use a longer excerpt")
    if seconds > max_seconds:
        raise AudioError(f"{name}: {seconds:.0f} s long; cut it to {max_seconds:.0f} s or less")


def check_heard(waveform: np.ndarray, name: str) -> None:
    """Refuse a waveform in which nothing is to be heard. Raises AudioError."""
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
    """A tensor or array of numbers, of one or two dimensions, as an array; nothing is converted yet."""
    kind = type(sound).__name__
    if hasattr(sound, "is_floating_point"):  # a tensor; torch need not be imported for that
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
    """Two dimensions as (samples, channels): the channels are the axis of at most 8, else the shorter one."""
    frames, channels = array.shape
    if channels > MAX_CHANNELS >= frames:
        array = array.T
    elif channels > MAX_CHANNELS:
        raise AudioError(f"{name}: shape {array.shape} has no axis of 1 to {MAX_CHANNELS} channels; {WANTED}")
    if not array.shape[1]:
        raise AudioError(f"{name}: {_short(0, 1)}")
    return array


def _mono(array: np.ndarray) -> np.ndarray:
    """Floats as they are, integers as float32 of full scale 1; channels as their mean."""
    if array.dtype.kind != "f":
        bits, middle = SCALED[array.dtype.name], 128 if array.dtype == np.uint8 else 0
        wide = np.float64 if bits > 23 else np.float32
        array = (array.astype(wide) - wide(middle)) * wide(2.0**-bits)
    return array.mean(axis=1, dtype=np.result_type(array, np.float32)) if array.ndim == 2 else array

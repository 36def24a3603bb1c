"""From a file, or the bytes of one, to windows of mono audio. The only file that decodes.

A waveform here is float32 in [-1, 1], shape (samples,). libsndfile decodes WAV, FLAC, Ogg, MP3, AIFF
and AU; `mer.audio.resampling` changes the sample rate.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from os import PathLike
from pathlib import Path

import numpy as np
import soundfile

from mer.audio.resampling import resample
from mer.audio.waveforms import (
    MAX_CHANNELS,
    MAX_FRAMES,
    MAX_SECONDS,
    MIN_SECONDS,
    RATE_RANGE,
    as_number,
    as_samples,
    as_source,
    as_whole,
    check_heard,
    check_samples,
)
from mer.config.sections import AudioConfig
from mer.utils.errors import AudioError

__all__ = [
    "MAX_CHANNELS",
    "MIN_SECONDS",
    "Audio",
    "Source",
    "beginning",
    "decode",
    "load",
    "window_starts",
    "windows",
]

Source = str | PathLike | bytes  # a path, or the bytes of a file

AT_ONCE = 2**24  # samples over all channels that are read in one go; a header may lie about their number
MOST_SAMPLES = 2**32
DAY = 86_400.0  # s


@dataclass(frozen=True, slots=True)
class Audio:
    """One decoded clip: mono `waveform` at its own `rate` in Hz, from a file with `channels`."""

    waveform: np.ndarray
    rate: int
    channels: int

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.waveform) / self.rate

    def content_hash(self) -> str:
        """Hash of what is heard, to 16 bits: equal for a WAV file and a lossless copy of it."""
        level = np.clip(self.waveform, -1, 1)
        level *= 32767
        pcm = np.round(level, out=level).astype("<i2")
        return blake2b(pcm.data, digest_size=16, salt=str(self.rate).encode()).hexdigest()


def decode(source: Source, *, name: str | None = None, max_seconds: float = MAX_SECONDS) -> Audio:
    """Decode a file, by its path, or its bytes to mono at the file's own sample rate.

    `name` is what error messages call the clip (default: the path). Raises AudioError if the clip is
    missing, not audio, empty, shorter than 0.5 s, longer than `max_seconds`, has over 8 channels,
    samples that are not numbers, or nothing louder than -80 dBFS; ConfigError for `max_seconds` out of range.
    """
    source = as_source(source)
    max_seconds = as_number(max_seconds, "max_seconds", low=MIN_SECONDS, high=DAY, unit=" s")
    if name is None:
        name = str(source) if isinstance(source, Path) else "clip"
    if not (source if isinstance(source, bytes) else _size(source, name)):
        raise AudioError(f"{name}: empty, 0 bytes; record or export it again")
    try:
        with soundfile.SoundFile(_Bytes(source) if isinstance(source, bytes) else source) as file:
            _check_header(file, name, max_seconds)
            rate, channels = file.samplerate, file.channels
            samples = _read(file)
    except (soundfile.LibsndfileError, OSError, RuntimeError, TypeError) as error:  # TypeError: headerless
        raise AudioError(
            f"{name}: not audio that can be decoded ({_reason(error)}); use WAV, FLAC, Ogg, MP3, AIFF or AU"
        ) from error
    check_samples(samples, rate, name)
    waveform = _mix(samples)
    check_heard(waveform, name)
    return Audio(waveform, rate, channels)


def _size(path: Path, name: str) -> int:
    """Bytes of a file; raises AudioError if there is none."""
    try:
        if path.is_file():
            return path.stat().st_size
    except OSError as error:  # a folder that may not be entered, or too long a name
        reason = f"cannot be read ({error.strerror}); check its name and permissions"
        raise AudioError(f"{name}: {reason}") from error
    raise AudioError(f"{name}: no such file; check the path")


def _read(file: soundfile.SoundFile) -> np.ndarray:
    """All samples (frames, channels); of long files, block by block, their mean (frames, 1)."""
    kind = _sample_type(file)
    if file.frames * file.channels <= AT_ONCE:
        return file.read(dtype=kind, always_2d=True)
    mono, done = np.empty(file.frames, np.float32), 0  # what is never filled takes no memory
    while len(block := file.read(AT_ONCE // file.channels, dtype=kind, always_2d=True)):
        mono[done : done + len(block)] = _mix(block)
        done += len(block)
    return mono[:done, None]


def _sample_type(file: soundfile.SoundFile) -> str:
    """What to read: 16-bit samples as they are, since `_mix` scales them faster, to the same bits."""
    return "int16" if file.subtype == "PCM_16" and file.channels <= 2 else "float32"


def _mix(samples: np.ndarray) -> np.ndarray:
    """Mean over the channels, (frames, channels) -> float32 (frames,), full scale at 1."""
    channels, full_scale = samples.shape[1], 32768 if samples.dtype == np.int16 else 1
    if channels > 2:
        return samples.mean(axis=1)
    wave = samples[:, 0].astype(np.float32, copy=channels > 1)
    if channels == 2:  # `mean` over so short an axis takes ten times as long
        wave += samples[:, 1]
    wave *= np.float32(1 / (channels * full_scale))  # a power of two: exact
    return wave


class _Bytes(io.BytesIO):
    """Bytes that a decoder may seek in as in a file: what points before the start goes nowhere."""

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return super().seek(offset, whence)
        except ValueError:
            return self.tell()


def _reason(error: Exception) -> str:
    return (getattr(error, "error_string", None) or str(error)).strip().rstrip(".")


def _check_header(file: soundfile.SoundFile, name: str, max_seconds: float) -> None:
    """Refuse what the header alone shows to be unusable, before reading the samples."""
    low, high = RATE_RANGE
    if not low <= file.samplerate <= high:
        raise AudioError(f"{name}: sample rate {file.samplerate} Hz; use one from {low} to {high} Hz")
    if not 1 <= file.channels <= MAX_CHANNELS:
        raise AudioError(f"{name}: {file.channels} channels; use 1 to {MAX_CHANNELS}")
    seconds = file.frames / file.samplerate
    if seconds > max_seconds:
        raise AudioError(f"{name}: {seconds:.0f} s long; cut it to {max_seconds:.0f} s or less")
    if file.frames > MAX_FRAMES:
        most = MAX_FRAMES / file.samplerate
        raise AudioError(
            f"{name}: {seconds:.0f} s at {file.samplerate} Hz; cut it to {most:.0f} s, or export it at "
            "44100 Hz"
        )


def beginning(content: bytes, seconds: float) -> bytes:
    """The first seconds of a recording as a WAV file, or the recording itself if it is no longer.

    What cannot be decoded is handed back as it is, for `decode` to say why; so is what would take more than
    128 MB, which `decode` reads in blocks. Raises AudioError for what is not bytes, ConfigError for `seconds`
    out of range.
    """
    seconds = as_number(seconds, "seconds", low=0, high=MAX_SECONDS, unit=" s")
    if not isinstance(content := as_source(content), bytes):
        raise AudioError(f"{content}: a path; give the bytes of the recording, those of Path.read_bytes")
    try:
        with soundfile.SoundFile(_Bytes(content)) as file:
            low, high = RATE_RANGE
            if not (low <= file.samplerate <= high and file.channels <= MAX_CHANNELS):
                return content
            rate, wanted = file.samplerate, int(seconds * file.samplerate)
            if file.frames <= wanted or wanted * file.channels > 4 * AT_ONCE:
                return content
            samples = file.read(wanted, dtype="int16")
    except (soundfile.LibsndfileError, OSError, RuntimeError, TypeError):
        return content
    cut = io.BytesIO()
    soundfile.write(cut, samples, rate, format="WAV", subtype="PCM_16")
    return cut.getvalue()


def load(
    source: Source, config: AudioConfig, *, name: str | None = None, max_seconds: float = MAX_SECONDS
) -> np.ndarray:
    """Decode and resample: waveform of shape (samples,) at `config.sample_rate`. Raises AudioError."""
    audio = decode(source, name=name, max_seconds=max_seconds)
    return resample(audio.waveform, rate=audio.rate, audio=config, checked=True)


def _window_samples(config: AudioConfig) -> int:
    return round(config.window_seconds * config.sample_rate)


def window_starts(n_samples: int, config: AudioConfig) -> list[int]:
    """First sample of each window of a clip of `n_samples`.

    Windows start every `hop_seconds`; where they leave more than 0.5 s at the end uncovered, one more
    window ends flush with the clip. A clip no longer than a window has one window, from 0; with `only_first`
    every clip has. Raises ConfigError for a number of samples that no clip has.
    """
    n_samples = as_whole(n_samples, "n_samples", low=0, high=MOST_SAMPLES)
    if config.only_first:
        return [0]
    size, hop = _window_samples(config), round(config.hop_seconds * config.sample_rate)
    starts = list(range(0, max(n_samples - size, 0) + 1, hop))
    if n_samples - (starts[-1] + size) > MIN_SECONDS * config.sample_rate:
        starts.append(n_samples - size)
    return starts


def _pad(waveform: np.ndarray, size: int, mode: str) -> np.ndarray:
    if len(waveform) >= size:
        return waveform
    if mode == "repeat":
        return np.resize(waveform, size)
    return np.pad(waveform, (0, size - len(waveform)))


def windows(waveform: np.ndarray, config: AudioConfig, *, checked: bool = False) -> Iterator[np.ndarray]:
    """The windows of a clip, each float32 of shape (window_seconds * sample_rate,).

    `waveform` is what `as_samples` takes; with `checked` it has been there already. Raises
    AudioError.
    """
    waveform = waveform if checked else as_samples(waveform)
    size = _window_samples(config)
    padded = _pad(waveform, size, config.pad)
    return (padded[start : start + size] for start in window_starts(len(waveform), config))

"""Decodes an audio file, or the bytes of one, and cuts it into windows of mono audio.

A waveform is float32 in [-1, 1] of shape (samples,). libsndfile reads WAV, FLAC, Ogg, MP3, AIFF and AU;
`mer.audio.ffmpeg` reads what it cannot. `mer.audio.resampling` changes the sample rate.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from os import PathLike
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from mer.audio import ffmpeg
from mer.audio.mixing import mix
from mer.audio.resampling import resample
from mer.audio.waveforms import (
    MAX_CHANNELS,
    MAX_FRAMES,
    MAX_SECONDS,
    MIN_SECONDS,
    as_number,
    as_samples,
    as_source,
    as_whole,
    check_form,
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

Source = str | PathLike | bytes  # a path, or the content of a file

AT_ONCE = 2**24  # most samples, over all channels, read in one call; a header may state a false length
MOST_SAMPLES = 2**32
UNREAD = (soundfile.LibsndfileError, OSError, RuntimeError, TypeError, ValueError)  # TypeError: headerless
DAY = 86_400.0  # s


@dataclass(frozen=True, slots=True)
class Audio:
    """One decoded clip.

    Parameters
    ----------
    waveform
        Mono samples, float32 of shape (samples,), full scale at 1.
    rate
        Sample rate of the file, Hz.
    channels
        Number of channels in the file.
    """

    waveform: np.ndarray
    rate: int
    channels: int

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.waveform) / self.rate

    def content_hash(self) -> str:
        """Hash of the samples, rounded to 16 bits, and of the rate. A lossless copy has the same hash."""
        level = np.clip(self.waveform, -1, 1)
        level *= 32767
        pcm = np.round(level, out=level).astype("<i2")
        return blake2b(pcm.data, digest_size=16, salt=str(self.rate).encode()).hexdigest()


def decode(source: Source, *, name: str | None = None, max_seconds: float = MAX_SECONDS) -> Audio:
    """Decode a file to mono at its own sample rate.

    Parameters
    ----------
    source
        Path of the file, or its content as bytes.
    name
        Name of the clip in error messages; the path by default.
    max_seconds
        Longest duration accepted, s, from 0.5 to 86,400.

    Raises
    ------
    AudioError
        If the clip is missing, not audio, empty, shorter than 0.5 s, longer than `max_seconds`, over 2^28
        samples a channel, outside 1000 to 768,000 Hz, over 8 channels, contains NaN or infinity, or has
        no sample above -80 dBFS.
    ConfigError
        If `max_seconds` is out of range.
    """
    source = as_source(source)
    max_seconds = as_number(max_seconds, "max_seconds", low=MIN_SECONDS, high=DAY, unit=" s")
    if name is None:
        name = str(source) if isinstance(source, Path) else "clip"
    if not (source if isinstance(source, bytes) else _size(source, name)):
        raise AudioError(f"{name}: empty, 0 bytes; record or export it again")
    waveform, rate, channels = _sound(source, name, max_seconds)
    check_heard(waveform, name)
    return Audio(waveform, rate, channels)


def _sound(source: Path | bytes, name: str, max_seconds: float) -> tuple[np.ndarray, int, int]:
    """Mono samples, sample rate and number of channels, by libsndfile or else by FFmpeg."""
    with _opened(source, name) as file:
        try:
            samples, rate, channels = _by_libsndfile(file, name, max_seconds)
        except AudioError:
            raise
        except UNREAD:
            samples, rate, channels = ffmpeg.read(file, name=name, max_seconds=max_seconds)
    check_samples(samples, rate, name)
    return mix(samples) if samples.ndim == 2 else samples, rate, channels


def _opened(source: Path | bytes, name: str) -> BinaryIO:
    """The file. A path is opened here, since libsndfile would also look at its suffix."""
    if isinstance(source, bytes):
        return _Bytes(source)
    try:
        return source.open("rb", buffering=0)
    except OSError as error:
        reason = f"cannot be read ({error.strerror}); check its name and permissions"
        raise AudioError(f"{name}: {reason}") from error


def _by_libsndfile(file: BinaryIO, name: str, max_seconds: float) -> tuple[np.ndarray, int, int]:
    """Samples (frames, channels), rate and channels. Raises one of UNREAD if libsndfile cannot read it."""
    with soundfile.SoundFile(file if isinstance(file, _Bytes) else file.fileno(), closefd=False) as sound:
        _check_header(sound, name, max_seconds)
        return _read(sound), sound.samplerate, sound.channels


def _size(path: Path, name: str) -> int:
    """Size of a file in bytes. Raises AudioError if there is no such file."""
    try:
        if path.is_file():
            return path.stat().st_size
    except OSError as error:  # no permission for the folder, or the name is too long
        reason = f"cannot be read ({error.strerror}); check its name and permissions"
        raise AudioError(f"{name}: {reason}") from error
    raise AudioError(f"{name}: no such file; check the path")


def _read(file: soundfile.SoundFile) -> np.ndarray:
    """All samples (frames, channels). Long files are read in blocks and mixed to (frames, 1)."""
    kind = _sample_type(file)
    if file.frames * file.channels <= AT_ONCE:
        return file.read(dtype=kind, always_2d=True)
    mono, done = np.empty(file.frames, np.float32), 0  # pages never written take no memory
    while len(block := file.read(AT_ONCE // file.channels, dtype=kind, always_2d=True)):
        mono[done : done + len(block)] = mix(block)
        done += len(block)
    return mono[:done, None]


def _sample_type(file: soundfile.SoundFile) -> str:
    """Type to read as. 16-bit samples stay int16: `mix` scales them faster, with identical results."""
    return "int16" if file.subtype == "PCM_16" and file.channels <= 2 else "float32"


class _Bytes(io.BytesIO):
    """Bytes as a file in which a seek to before the start is ignored instead of an error."""

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return super().seek(offset, whence)
        except ValueError:
            return self.tell()


def _check_header(file: soundfile.SoundFile, name: str, max_seconds: float) -> None:
    """Refuse a file whose header shows that it cannot be used, before its samples are read."""
    check_form(file.samplerate, file.channels, name)
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
    """Cut a recording to its first seconds.

    Parameters
    ----------
    content
        Content of an audio file.
    seconds
        Duration to keep, s, from 0 to 3600.

    Returns
    -------
    bytes
        A 16-bit WAV file. `content` itself if it is not longer than `seconds`, if it cannot be decoded
        (`decode` then reports why), or if the result would exceed 128 MB (`decode` reads that in blocks).

    Raises
    ------
    AudioError
        If `content` is not bytes.
    ConfigError
        If `seconds` is out of range.
    """
    seconds = as_number(seconds, "seconds", low=0, high=MAX_SECONDS, unit=" s")
    if not isinstance(content := as_source(content), bytes):
        raise AudioError(f"{content}: a path; give the bytes of the recording, those of Path.read_bytes")
    try:
        found = _beginning(content, seconds)
    except AudioError:
        return content
    if found is None:
        return content
    cut = io.BytesIO()
    soundfile.write(cut, *found, format="WAV", subtype="PCM_16")
    return cut.getvalue()


def _beginning(content: bytes, seconds: float) -> tuple[np.ndarray, int] | None:
    """The first samples of a recording and their rate; None if it is not longer, or they are too many."""
    file = _Bytes(content)
    try:
        with soundfile.SoundFile(file) as sound:
            check_form(sound.samplerate, sound.channels, "recording")
            wanted = int(seconds * sound.samplerate)
            if sound.frames <= wanted or wanted * sound.channels > 4 * AT_ONCE:
                return None
            return sound.read(wanted, dtype="int16"), sound.samplerate
    except AudioError:
        raise
    except UNREAD:
        samples, rate, _ = ffmpeg.read(file, name="recording", max_seconds=seconds, cut=True)
        return None if len(samples) < int(seconds * rate) else (samples, rate)


def load(
    source: Source, config: AudioConfig, *, name: str | None = None, max_seconds: float = MAX_SECONDS
) -> np.ndarray:
    """Decode with `decode` and resample to `config.sample_rate`; float32 (samples,). Raises as `decode`."""
    audio = decode(source, name=name, max_seconds=max_seconds)
    return resample(audio.waveform, rate=audio.rate, audio=config, checked=True)


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


def _pad(waveform: np.ndarray, size: int, mode: str) -> np.ndarray:
    if len(waveform) >= size:
        return waveform
    if mode == "repeat":
        return np.resize(waveform, size)
    return np.pad(waveform, (0, size - len(waveform)))


def windows(waveform: np.ndarray, config: AudioConfig, *, checked: bool = False) -> Iterator[np.ndarray]:
    """Cut a clip into windows, padding a clip that is shorter than one.

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
    return (padded[start : start + size] for start in window_starts(len(waveform), config))

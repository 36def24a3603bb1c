"""Decodes an audio file, or the bytes of one, to a waveform: mono, float32 in [-1, 1], shape (samples,).

`mer.audio.formats` says what a file is, `mer.audio.libsndfile` reads WAV, FLAC, Ogg, MP3, AIFF and AU, and
`mer.audio.ffmpeg` what that cannot read or leaves unread. `mer.audio.ends` finds out what is missing.
`mer.audio.resampling` changes the sample rate.
"""

import io
from dataclasses import dataclass, replace
from hashlib import blake2b
from os import PathLike
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from mer.audio import ffmpeg, libsndfile
from mer.audio.chunks import sound_chunk
from mer.audio.ends import share_present
from mer.audio.formats import Kind, recognise
from mer.audio.quality import of_recording
from mer.audio.resampling import resample
from mer.audio.sound import LOST, Sound
from mer.audio.waveforms import (
    MAX_CHANNELS,
    MAX_SECONDS,
    MIN_SECONDS,
    as_number,
    as_source,
    check_form,
    check_heard,
)
from mer.config.sections import AudioConfig
from mer.utils.errors import AudioError

__all__ = ["MAX_CHANNELS", "MIN_SECONDS", "Audio", "Source", "beginning", "decode", "hear", "load"]

Source = str | PathLike | bytes  # a path, or the content of a file

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
    remarks
        Sentences on why it may not be the sound that was recorded, such as that the file is cut.
    fresh
        True if earlier versions heard something else in this file, or nothing.
    """

    waveform: np.ndarray
    rate: int
    channels: int
    remarks: tuple[str, ...] = ()
    fresh: bool = False

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
    sound, remarks = _sound(source, name, max_seconds)
    check_heard(sound.waveform, name)
    return Audio(sound.waveform, sound.rate, sound.channels, remarks, sound.fresh)


def _sound(source: Path | bytes, name: str, max_seconds: float) -> tuple[Sound, tuple[str, ...]]:
    """The sound of a file, by libsndfile or else by FFmpeg, and remarks on it."""
    with _opened(source, name) as file:
        kind = recognise(file)
        chunk = sound_chunk(file, kind)
        try:
            sound = libsndfile.read(file, kind, chunk, name=name, max_seconds=max_seconds)
        except AudioError:
            raise
        except libsndfile.UNREAD:
            sound = ffmpeg.read(file, kind, name=name, max_seconds=max_seconds)
        else:
            if libsndfile.goes_on(file, kind):
                sound = _longer(sound, file, kind, name, max_seconds)
        return sound, sound.remarks(chunk.share if chunk else share_present(file, kind))


def _longer(sound: Sound, file: BinaryIO, kind: Kind, name: str, max_seconds: float) -> Sound:
    """What FFmpeg reads, if that is more."""
    other = ffmpeg.read(file, kind, name=name, max_seconds=max_seconds)
    return replace(other, fresh=True) if other.seconds > sound.seconds + LOST else sound


def _opened(source: Path | bytes, name: str) -> BinaryIO:
    """The file. A path is opened here, since libsndfile would also look at its suffix."""
    if isinstance(source, bytes):
        return libsndfile.Content(source)
    try:
        return source.open("rb", buffering=0)
    except OSError as error:
        reason = f"cannot be read ({error.strerror}); check its name and permissions"
        raise AudioError(f"{name}: {reason}") from error


def _size(path: Path, name: str) -> int:
    """Size of a file in bytes. Raises AudioError if there is no such file."""
    try:
        if path.is_file():
            return path.stat().st_size
    except OSError as error:  # no permission for the folder, or the name is too long
        reason = f"cannot be read ({error.strerror}); check its name and permissions"
        raise AudioError(f"{name}: {reason}") from error
    raise AudioError(f"{name}: no such file; check the path")


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
    file = libsndfile.Content(content)
    kind = recognise(file)
    try:
        with libsndfile.opened(file, kind, sound_chunk(file, kind))[0] as sound:
            check_form(sound.samplerate, sound.channels, "recording")
            wanted = int(seconds * sound.samplerate)
            if sound.frames <= wanted or wanted * sound.channels > 4 * libsndfile.AT_ONCE:
                return None
            return sound.read(wanted, dtype=libsndfile.sample_type(sound)), sound.samplerate
    except AudioError:
        raise
    except libsndfile.UNREAD:
        found = ffmpeg.read(file, kind, name="recording", max_seconds=seconds, cut=True)
        return None if len(found.waveform) < int(seconds * found.rate) else (found.waveform, found.rate)


def hear(
    source: Source, config: AudioConfig, *, name: str | None = None, max_seconds: float = MAX_SECONDS
) -> Audio:
    """Decode with `decode`, and resample to `config.sample_rate`. Raises as `decode`.

    Its remarks are those of `decode` and of `mer.audio.quality.of_recording`.
    """
    audio = decode(source, name=name, max_seconds=max_seconds)
    remarks = audio.remarks + of_recording(audio.waveform, audio.rate, used=config.sample_rate)
    waveform = resample(audio.waveform, rate=audio.rate, audio=config, checked=True)
    return replace(audio, waveform=waveform, rate=config.sample_rate, remarks=remarks)


def load(
    source: Source, config: AudioConfig, *, name: str | None = None, max_seconds: float = MAX_SECONDS
) -> np.ndarray:
    """Decode with `decode` and resample to `config.sample_rate`; float32 (samples,). Raises as `decode`."""
    audio = decode(source, name=name, max_seconds=max_seconds)
    return resample(audio.waveform, rate=audio.rate, audio=config, checked=True)

"""From a file, or the bytes of one, to windows of mono audio. The only file that decodes.

A waveform here is float32 in [-1, 1], shape (samples,). libsndfile decodes WAV, FLAC, Ogg, MP3, AIFF
and AU; `mer.audio.resampling` changes the sample rate.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import soundfile

from mer.audio.resampling import resample
from mer.config.sections import AudioConfig
from mer.utils.errors import AudioError

__all__ = [
    "MAX_CHANNELS",
    "MIN_SECONDS",
    "Audio",
    "beginning",
    "decode",
    "load",
    "window_starts",
    "windows",
]

MIN_SECONDS = 0.5  # a shorter clip is left out; a shorter uncovered tail gets no window of its own
MAX_CHANNELS = 8
MAX_SECONDS = 3600.0  # longer is refused unread, and so are
MAX_FRAMES = 2**28  # 1 GB of mono float32, an hour up to 74 kHz; a small FLAC file can hold ten times that
AT_ONCE = 2**24  # samples over all channels that are read in one go; a header may lie about their number
RATE_RANGE = (1000, 768_000)
SILENCE_PEAK = 1e-4  # -80 dBFS
LOUDEST = 2.0**32  # more than any integer scale written as floats; powers of such samples stay finite


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


def decode(source: Path | bytes, *, name: str | None = None, max_seconds: float = MAX_SECONDS) -> Audio:
    """Decode a file or its bytes to mono at the file's own sample rate.

    `name` is what error messages call the clip (default: the path). Raises AudioError if the clip is
    missing, not audio, empty, shorter than 0.5 s, longer than `max_seconds`, has over 8 channels,
    samples that are not numbers, or nothing louder than -80 dBFS.
    """
    if name is None:
        name = str(source) if isinstance(source, Path) else "clip"
    if isinstance(source, Path) and not source.is_file():
        raise AudioError(f"{name}: no such file; check the path")
    if not (source if isinstance(source, bytes) else source.stat().st_size):
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
    _check_samples(samples, rate, name)
    waveform = _mix(samples)
    if _peak(waveform) < SILENCE_PEAK:
        raise AudioError(f"{name}: silent, nothing above -80 dBFS; check the recording")
    return Audio(waveform, rate, channels)


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


def _peak(samples: np.ndarray) -> float:
    """Largest absolute value; not finite if any value is not."""
    return max(float(samples.max()), -float(samples.min()))


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


def _check_samples(samples: np.ndarray, rate: int, name: str) -> None:
    """Refuse samples, shape (frames, channels), that are no sound."""
    if len(samples) == 0:
        raise AudioError(f"{name}: empty, 0 samples; record or export it again")
    peak = _peak(samples)
    if not np.isfinite(peak):
        raise AudioError(f"{name}: NaN or infinite samples; export it again")
    if samples.dtype == np.float32 and peak > LOUDEST:
        raise AudioError(f"{name}: samples up to {peak:.0e}, where 1 is full scale; export it again")
    seconds = len(samples) / rate
    if seconds < MIN_SECONDS:
        raise AudioError(f"{name}: {seconds:.2f} s, shorter than {MIN_SECONDS} s; use a longer excerpt")


def beginning(content: bytes, seconds: float) -> bytes:
    """The first seconds of a recording as a WAV file, or the recording itself if it is no longer.

    What cannot be decoded is handed back as it is, for `decode` to say why; so is what would take more than
    128 MB, which `decode` reads in blocks.
    """
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
    source: Path | bytes, config: AudioConfig, *, name: str | None = None, max_seconds: float = MAX_SECONDS
) -> np.ndarray:
    """Decode and resample: waveform of shape (samples,) at `config.sample_rate`. Raises AudioError."""
    audio = decode(source, name=name, max_seconds=max_seconds)
    return resample(audio.waveform, rate=audio.rate, audio=config)


def _window_samples(config: AudioConfig) -> int:
    return round(config.window_seconds * config.sample_rate)


def window_starts(n_samples: int, config: AudioConfig) -> list[int]:
    """First sample of each window of a clip of `n_samples`.

    Windows start every `hop_seconds`; where they leave more than 0.5 s at the end uncovered, one more
    window ends flush with the clip. A clip no longer than a window has one window, from 0; with `only_first`
    every clip has.
    """
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


def windows(waveform: np.ndarray, config: AudioConfig) -> Iterator[np.ndarray]:
    """The windows of a clip, each float32 of shape (window_seconds * sample_rate,)."""
    size = _window_samples(config)
    padded = _pad(waveform, size, config.pad)
    for start in window_starts(len(waveform), config):
        yield padded[start : start + size]

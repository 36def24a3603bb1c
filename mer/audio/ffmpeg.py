"""Reads sound that libsndfile cannot, by FFmpeg in the package `av` (PyAV), which is imported when needed.

A file is opened as the format that its first bytes show, with the decoders of sound alone. It cannot make the
program open another file or an address: formats that name others (playlists, DASH, concat) are not among
those of `mer.audio.formats`, no protocol is allowed, and any request to open something is refused.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

import numpy as np
import soxr

from mer.audio.formats import Kind
from mer.audio.mixing import Mix
from mer.audio.sound import LOST, Sound
from mer.audio.views import View
from mer.audio.waveforms import MAX_FRAMES, check_form, check_samples
from mer.utils.errors import AudioError, reason_of

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream, Packet
    from av.container import InputContainer

__all__ = ["codec", "read"]

COMPRESSED = (
    "aac ac3 adpcm_g722 adpcm_g726 adpcm_ima_qt adpcm_ima_wav adpcm_ms alac amrnb amrwb eac3 flac gsm gsm_ms "
    "libopencore_amrnb libopencore_amrwb libopus mp1 mp1float mp2 mp2float mp3 mp3float opus speex vorbis "
    "wavpack wmalossless wmapro wmav1 wmav2 wmavoice"
)
SAMPLES = "alaw f32be f32le f64be f64le mulaw s16be s16le s24be s24le s32be s32le s8 u8"
DECODERS = frozenset(COMPRESSED.split()) | {f"pcm_{name}" for name in SAMPLES.split()}
LOCKED = {"drms", "enca", "aavd"}  # tags of encrypted sound in MP4
LOCKED_WMA = (  # ids of objects in the header of an encrypted WMA file
    bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e"),
    bytes.fromhex("14e68a292226174cb935dae07ee9289c"),
)
HEAD = 2**16  # bytes in which those ids are looked for
PROTECTED = "{} with copy protection (DRM); use a copy without it"
MATROSKA = "Matroska or WebM"
GUESSED = {"MP3", "AAC", "AC-3", "AMR", "MPEG", "AVI", "WMA"}  # FFmpeg derives their length from their size
MOST_STREAMS = 32
READS, MORE = 8, 2**24  # a file may be read so many times over, plus so many bytes
BEHIND = 32  # bytes behind the last packet of a Matroska file that belong to it
LATE = 0.1  # s that a clip may be too long by, since encoders pad it to whole frames


class _File(View):
    """A file for FFmpeg, from its first recognised byte. It ends the reading of one that leads in circles."""

    def __init__(self, file: BinaryIO, begin: int) -> None:
        self.left = READS * file.seek(0, 2) + MORE
        super().__init__(file, begin)

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes. Raises OSError if the file was read too often."""
        content = super().read(size)
        self.left -= len(content) + 1
        if self.left < 0:
            raise OSError("it leads in circles")
        return content


class _Waveform:
    """Mono samples as they are decoded, at the rate of the first of them.

    Parameters
    ----------
    name
        Name of the clip in errors.
    seconds
        Longest duration, s.
    cut
        Whether a longer clip is cut instead of refused.
    channel
        The only channel to use. Default: the mean.
    """

    def __init__(self, name: str, seconds: float, *, cut: bool, channel: int | None = None) -> None:
        self.name, self.seconds, self.cut = name, seconds, cut
        self.mix = Mix(channel)
        self.rate = self.channels = self.done = 0
        self.stated = 0.0  # length that the file states, s; 0 if it states none
        self.failed = self.damaged = False  # whether a packet failed, and whether another followed it
        self.broken = False  # whether the file breaks off
        self.reached = 0.0  # time at the end of the last samples, s
        self.samples = np.empty(0, np.float32)
        self.changed: tuple[int, soxr.ResampleStream] | None = None  # another rate later in the file

    def add(self, samples: np.ndarray, rate: int) -> bool:
        """Add samples (frames, channels). True if more are wanted. Raises AudioError if they are too many."""
        check_form(rate, samples.shape[1], self.name)
        if not self.rate:
            most = min(int((self.seconds + (0 if self.cut else LATE)) * rate), MAX_FRAMES)
            self.rate, self.samples = rate, np.empty(most, np.float32)  # unused pages take no memory
        self.channels = max(self.channels, samples.shape[1])
        wave = self._at_one_rate(self.mix(samples), rate)
        room = len(self.samples) - self.done
        if len(wave) > room and not self.cut:
            raise AudioError(f"{self.name}: over {len(self.samples) / self.rate:.0f} s long; cut it")
        self.samples[self.done : self.done + len(wave)] = wave[:room]
        self.done += min(len(wave), room)
        return not self.cut or self.done < len(self.samples)

    def require_trust(self, kind: str) -> None:
        """Raise AudioError if sound was lost elsewhere than at the end, so that the rest is out of place.

        Matroska and WebM may leave pauses out.
        """
        heard = self.done / self.rate
        gap = self.reached > heard + LOST and kind != MATROSKA
        if (self.damaged or gap) and not self.cut and heard < self.stated - LOST:
            raise AudioError(
                f"{self.name}: damaged {kind}, {heard:.1f} of {self.stated:.1f} s can be read; "
                "fetch or export it again"
            )

    def found(self) -> Sound:
        """The sound."""
        channel, wave = self.mix.channel, self.samples[: self.done]
        stated = self.stated if self.reached < self.stated - LOST else 0.0
        return Sound(wave, self.rate, self.channels, stated, self.broken, channel, channel is not None)

    def _at_one_rate(self, wave: np.ndarray, rate: int) -> np.ndarray:
        if rate == self.rate:
            return wave
        if self.changed is None or self.changed[0] != rate:
            self.changed = rate, soxr.ResampleStream(rate, self.rate, 1)
        return self.changed[1].resample_chunk(wave)


def read(file: BinaryIO, kind: Kind, *, name: str, max_seconds: float, cut: bool = False) -> Sound:
    """Decode the first track of sound of a file to mono.

    Parameters
    ----------
    file
        An open file that can seek.
    kind
        Its format.
    name
        Name of the clip in errors.
    max_seconds
        Longest duration, s.
    cut
        Whether a longer clip is cut instead of refused.

    Raises
    ------
    AudioError
        If the file is not sound, is protected, or cannot be decoded.
    """
    if not kind.name:
        raise AudioError(f"{name}: not audio that can be decoded (unknown format); {kind.remedy}")
    if not kind.demuxer:
        raise AudioError(f"{name}: {kind.name}, not audio; {kind.remedy}")
    if kind.demuxer == "asf" and _locked_wma(file):
        raise AudioError(f"{name}: {PROTECTED.format(kind.name)}")
    found = _heard(file, kind, _Waveform(name, max_seconds, cut=cut))
    if found.mix.better is not None:
        channel = found.mix.better
        found = _heard(file, kind, _Waveform(name, max_seconds, cut=cut, channel=channel))
    sound = found.found()
    return replace(sound, fresh=True) if kind.begin and not cut else sound


def _heard(file: BinaryIO, kind: Kind, found: _Waveform) -> _Waveform:
    """Fill `found` with the sound of a file. Raises AudioError if there is none, or it cannot be trusted."""
    reason = "no sound could be decoded"
    try:
        _decode(file, kind, found)
    except AudioError:
        raise
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        reason = reason_of(error)
    if not found.done:
        raise AudioError(f"{found.name}: damaged {kind.name} ({reason}); fetch or export it again")
    found.require_trust(kind.name)
    check_samples(found.samples[: found.done], found.rate, found.name)
    return found


def codec(file: BinaryIO, kind: Kind, *, name: str) -> str:
    """FFmpeg's name of the codec of a file's first track of sound, such as "aac".

    Parameters
    ----------
    file
        An open file that can seek.
    kind
        Its format.
    name
        Name of the clip in errors.

    Raises
    ------
    AudioError
        If it cannot be opened, or has no track of sound that can be decoded.
    """
    try:
        with _opened(file, kind, name) as container:
            return _track(container, kind, name).codec_context.name
    except AudioError:
        raise
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        raise AudioError(f"{name}: damaged {kind.name} ({reason_of(error)}); export it again") from error


@contextmanager
def _opened(file: BinaryIO, kind: Kind, name: str) -> "Iterator[InputContainer]":
    """The file, opened by FFmpeg. Raises AudioError without the package av, and ValueError for its errors."""
    try:
        import av
    except ImportError:
        raise AudioError(
            f"{name}: {kind.name} needs the package av; pip install av, or convert it to WAV"
        ) from None
    options = {
        "format_whitelist": kind.demuxer,
        "codec_whitelist": ",".join(DECODERS),
        "protocol_whitelist": "none",
        "max_streams": str(MOST_STREAMS),
    }
    content = _File(file, kind.begin)
    try:
        with av.open(content, format=kind.demuxer, options=options, io_open=_refuse) as container:
            yield container
    except av.FFmpegError as error:  # of many classes
        raise ValueError(error.strerror) from error


def _decode(file: BinaryIO, kind: Kind, found: _Waveform) -> None:
    """Add all samples of the file's first track of sound to `found`."""
    last = 0
    with _opened(file, kind, found.name) as container:
        stream = _track(container, kind, found.name)
        _check_length(container, stream, kind, found)
        for packet in container.demux(stream):
            last = (packet.pos or 0) + packet.size if packet.size else last
            for frame in _frames(packet, found):
                if not found.add(_samples(frame), frame.sample_rate):
                    return
                found.reached = _end_of(frame, stream, found.done / found.rate)
        left = file.seek(0, 2) - kind.begin - last
        found.broken = _breaks_off(kind, found, left, len(container.streams))


def _breaks_off(kind: Kind, found: _Waveform, left: int, streams: int) -> bool:
    """True if a file that states no length breaks off, by the `left` bytes behind the last packet."""
    if kind.name == "AMR":
        return found.failed and not found.damaged
    return kind.name == MATROSKA and streams == 1 and not found.stated and left > BEHIND


def _end_of(frame: "AudioFrame", stream: "AudioStream", heard: float) -> float:
    """Time at which a frame ends, from the start of the stream; what was `heard`, if it has no time."""
    if frame.pts is None:
        return heard
    return float((frame.pts - (stream.start_time or 0)) * frame.time_base) + frame.samples / frame.sample_rate


def _refuse(*_: Any) -> NoReturn:
    """Answer FFmpeg's wish to open another file or an address."""
    raise OSError("it names another file, which is not opened")


def _track(container: "InputContainer", kind: Kind, name: str) -> "AudioStream":
    """The first track of sound. Raises AudioError if there is none or it cannot be heard."""
    if not container.streams.audio:
        raise AudioError(f"{name}: {kind.name} without sound; choose a file with a track of sound")
    stream = container.streams.audio[0]
    context = stream.codec_context
    if context and context.codec_tag in LOCKED:
        raise AudioError(f"{name}: {PROTECTED.format(kind.name)}")
    if context is None or context.name not in DECODERS:
        codec = context.name if context else "unknown"
        raise AudioError(f"{name}: {kind.name} with sound of the codec {codec}; convert it to FLAC or MP3")
    context.thread_count = 1
    return stream


def _locked_wma(file: BinaryIO) -> bool:
    file.seek(0)
    head = file.read(HEAD)
    return any(mark in head for mark in LOCKED_WMA)


def _check_length(container: "InputContainer", stream: "AudioStream", kind: Kind, found: _Waveform) -> None:
    """Keep the length that the file states, and refuse one over the limit. Some formats only guess theirs."""
    if kind.name in GUESSED:
        return
    if stream.duration:
        found.stated = float(stream.duration * stream.time_base)
    elif container.duration and len(container.streams) == 1:  # with a picture it may be the picture's
        found.stated = container.duration / 1e6
    if found.stated > found.seconds + LATE and not found.cut:
        raise AudioError(f"{found.name}: {found.stated:.0f} s long; cut it to {found.seconds:.0f} s or less")


def _frames(packet: "Packet", found: _Waveform) -> "list[AudioFrame]":
    """The frames of a packet; none if it is damaged."""
    import av

    try:
        frames = packet.decode()
    except av.FFmpegError:
        found.failed = True
        return []
    found.damaged |= found.failed and bool(packet.size)
    return frames


def _samples(frame: "AudioFrame") -> np.ndarray:
    """Samples of a frame, (frames, channels)."""
    samples = frame.to_ndarray()
    return samples.T if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels)

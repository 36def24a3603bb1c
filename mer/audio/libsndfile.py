"""Reads sound by libsndfile: WAV, FLAC, MP3, Ogg, Opus, AIFF, AU, CAF and some older formats."""

import io
from typing import BinaryIO

import numpy as np
import soundfile

from mer.audio.chunks import Chunk
from mer.audio.ends import has_second_stream, states_frames, tags_begin
from mer.audio.formats import Kind
from mer.audio.mixing import Mix, mix
from mer.audio.phase import chosen
from mer.audio.sound import Sound
from mer.audio.views import View
from mer.audio.waveforms import MAX_FRAMES, check_form, check_samples
from mer.utils.errors import AudioError

__all__ = ["AT_ONCE", "UNREAD", "Content", "goes_on", "opened", "read", "sample_type"]

AT_ONCE = 2**24  # most samples, over all channels, read in one call; a header may state a false length
UNREAD = (soundfile.LibsndfileError, OSError, RuntimeError, TypeError, ValueError)  # TypeError: headerless
NO_LENGTH = 2**62  # frames; a file that states no length seems to be longer
REST = 4096  # bytes that may be left behind the sound


class Content(io.BytesIO):
    """Bytes as a file in which a seek to an impossible place is ignored instead of an error."""

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move, if the place is possible."""
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return self.tell()


class _Mended(View):
    """A file from its byte `begin` on, in which the bytes from `place` on are replaced by `field`."""

    def __init__(self, file: BinaryIO, begin: int, place: int, field: bytes) -> None:
        super().__init__(file, begin)
        self.place, self.field = place, field

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes."""
        at = self.file.tell()
        content = bytearray(super().read(size))
        first, last = max(at, self.place), min(at + len(content), self.place + len(self.field))
        if first < last:
            content[first - at : last - at] = self.field[first - self.place : last - self.place]
        return bytes(content)


def opened(file: BinaryIO, kind: Kind, chunk: Chunk | None) -> tuple[soundfile.SoundFile, bool]:
    """Open a file, and tell whether it was mended: its header, or what stands in front of it.

    libsndfile itself skips what stands in front of MP3. Raises one of UNREAD if libsndfile cannot read it.
    """
    false = chunk is not None and chunk.false
    if false or (kind.begin and kind.name != "MP3"):
        place, field = (chunk.place, chunk.field) if false else (0, b"")
        return soundfile.SoundFile(_Mended(file, kind.begin, place, field)), True
    file.seek(0)
    return soundfile.SoundFile(file if isinstance(file, Content) else file.fileno(), closefd=False), False


def read(file: BinaryIO, kind: Kind, chunk: Chunk | None, *, name: str, max_seconds: float) -> Sound:
    """Decode a file to mono.

    Parameters
    ----------
    file
        An open file: `Content`, or one of the operating system without a buffer.
    kind
        Its format; one without a name may be read too.
    chunk
        Where its samples are; see `mer.audio.chunks.sound_chunk`.
    name
        Name of the clip in errors.
    max_seconds
        Longest duration, s.

    Raises
    ------
    AudioError
        If the sound cannot be used.
    LibsndfileError, OSError, RuntimeError, TypeError, ValueError
        If libsndfile cannot read the file (`UNREAD`).
    """
    guessed = kind.name == "MP3" and not states_frames(file, kind)
    sound, mended = opened(file, kind, chunk)
    with sound:
        _check_header(sound, name, max_seconds, guessed=guessed)
        waveform, channel = _mono(sound, name)
        stated = 0.0 if guessed else sound.frames / sound.samplerate
        fresh = mended or channel is not None or not sound.seekable()
        return Sound(waveform, sound.samplerate, sound.channels, stated, channel=channel, fresh=fresh)


def goes_on(file: BinaryIO, kind: Kind) -> bool:
    """True if sound may follow behind what libsndfile has read, as in two joined files."""
    if kind.name == "Ogg":
        return has_second_stream(file, kind)
    return kind.name in ("MP3", "FLAC") and file.tell() < tags_begin(file) - REST


def _check_header(file: soundfile.SoundFile, name: str, max_seconds: float, *, guessed: bool) -> None:
    """Refuse a file whose header shows that it cannot be used, before its samples are read.

    Raises ValueError if the length is unknown, or guessed to be too long.
    """
    check_form(file.samplerate, file.channels, name)
    seconds = file.frames / file.samplerate
    long, many = seconds > max_seconds, file.frames > MAX_FRAMES
    if file.frames > NO_LENGTH or (guessed and (long or many)):
        raise ValueError("its length is unknown")
    if long:
        raise AudioError(f"{name}: {seconds:.0f} s long; cut it to {max_seconds:.0f} s or less")
    if many:
        most = MAX_FRAMES / file.samplerate
        raise AudioError(
            f"{name}: {seconds:.0f} s at {file.samplerate} Hz; cut it to {most:.0f} s, or export it at "
            "44100 Hz"
        )


def _mono(file: soundfile.SoundFile, name: str) -> tuple[np.ndarray, int | None]:
    """All samples, mono, and the only channel used, if any. Long files are read in blocks."""
    if file.frames * file.channels > AT_ONCE:
        mono, channel = _in_blocks(file)
        check_samples(mono, file.samplerate, name)
        return mono, channel
    # The number of frames is given, since some codecs cannot seek and so cannot tell it.
    samples = file.read(file.frames, dtype=sample_type(file), always_2d=True)
    check_samples(samples, file.samplerate, name)
    channel = chosen(samples)
    return mix(samples, channel), channel


def _in_blocks(file: soundfile.SoundFile) -> tuple[np.ndarray, int | None]:
    """All samples, mono, read twice if the channels are in opposite phase."""
    mixer = Mix()
    mono = _mixed(file, mixer)
    if mixer.better is None or not file.seekable():
        return mono, None
    file.seek(0)
    return _mixed(file, Mix(mixer.better)), mixer.better


def _mixed(file: soundfile.SoundFile, mixer: Mix) -> np.ndarray:
    mono, done = np.empty(file.frames, np.float32), 0  # pages never written take no memory
    while len(block := file.read(AT_ONCE // file.channels, dtype=sample_type(file), always_2d=True)):
        mono[done : done + len(block)] = mixer(block)
        done += len(block)
    return mono[:done]


def sample_type(file: soundfile.SoundFile) -> str:
    """Type to read as. 16-bit samples stay int16: `mix` scales them faster, with identical results."""
    return "int16" if file.subtype == "PCM_16" and file.channels <= 2 else "float32"

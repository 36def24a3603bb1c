"""Sound for a player in a web browser."""

import io

import soundfile

from mer.audio.decode import decode
from mer.audio.ffmpeg import codec
from mer.audio.formats import Kind, recognise
from mer.utils.errors import AudioError

__all__ = ["playable"]

# What Chromium, Firefox and Safari all play, by MDN's guides to audio codecs and to media containers (2025):
# the media type, and the codecs in libsndfile's or FFmpeg's words.
PLAYED = {
    "WAV": ("audio/wav", {"PCM_U8", "PCM_16", "PCM_24", "FLOAT"}),
    "FLAC": ("audio/flac", {"PCM_S8", "PCM_16", "PCM_24"}),
    "MP3": ("audio/mpeg", {"MPEG_LAYER_III"}),
    "MP4": ("audio/mp4", {"aac"}),
}
OTHER_BRANDS = (b"qt", b"3g")  # QuickTime and 3GP are like MP4, but not every browser opens them


def playable(content: bytes, *, name: str) -> tuple[bytes, str]:
    """A sound file that Chromium, Firefox and Safari all play, and its media type.

    Parameters
    ----------
    content
        An audio file.
    name
        Its name for errors.

    Returns
    -------
    tuple
        The file itself where it is WAV (PCM or float), FLAC, MP3, or AAC in MP4. Otherwise its sound as FLAC:
        mono, 16 bits, at its own sample rate.

    Raises
    ------
    AudioError
        If it must be decoded and cannot be.
    """
    kind = recognise(io.BytesIO(content))
    media_type, codecs = PLAYED.get(kind.name, ("", set()))
    if codecs and _codec(content, kind, name) in codecs:
        return content, media_type
    sound, file = decode(content, name=name), io.BytesIO()
    soundfile.write(file, sound.waveform, sound.rate, format="FLAC", subtype="PCM_16")
    return file.getvalue(), PLAYED["FLAC"][0]


def _codec(content: bytes, kind: Kind, name: str) -> str:
    """The codec of a file of a format in `PLAYED`; empty if it is unknown or in another container."""
    try:
        if kind.name == "MP4":
            return "" if content[8:10] in OTHER_BRANDS else codec(io.BytesIO(content), kind, name=name)
        found = soundfile.info(io.BytesIO(content))
        return "" if found.format == "RF64" else found.subtype
    except (AudioError, soundfile.LibsndfileError):
        return ""

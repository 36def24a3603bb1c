"""The formats of sound that are accepted, and what a file is by its first bytes, whatever its name says.

`AUDIO_SUFFIXES` and `AUDIO_NAMES` are the only list of accepted formats: uploads, folders, zips, `predict`,
`serve` and the labels of the pages use it.
"""

import re
from dataclasses import dataclass, replace
from mimetypes import MimeTypes
from pathlib import Path
from typing import BinaryIO

__all__ = ["AUDIO_NAMES", "AUDIO_SUFFIXES", "FORMATS", "Kind", "frame", "misnamed", "recognise"]

FORMATS = {  # as people call it -> suffixes of its files
    "WAV": (".wav", ".wave"),
    "FLAC": (".flac",),
    "MP3": (".mp3", ".mp2", ".mpga"),
    "M4A": (".m4a", ".m4b", ".m4r"),
    "AAC": (".aac",),
    "Ogg": (".ogg", ".oga", ".spx"),
    "Opus": (".opus",),
    "WebM": (".webm", ".weba"),
    "MP4": (".mp4", ".m4v"),
    "MOV": (".mov",),
    "3GP": (".3gp", ".3g2"),
    "MKV": (".mkv", ".mka"),
    "WMA": (".wma", ".wmv", ".asf"),
    "AMR": (".amr",),
    "AVI": (".avi",),
    "MPEG": (".mpg", ".mpeg"),
    "AC-3": (".ac3",),
    "WavPack": (".wv",),
    "CAF": (".caf",),
    "AIFF": (".aif", ".aiff", ".aifc"),
    "AU": (".au", ".snd"),
}
AUDIO_SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
AUDIO_NAMES = f"{', '.join(list(FORMATS)[:-1])} or {list(FORMATS)[-1]}"

START = 64  # bytes that show most formats
HEAD = 2**17  # bytes in which the first frame of MP3 or AAC must begin
MOST_TAGS = 8  # tags and stretches of zeros in front of the sound
LEAST_ZEROS = 5  # MPEG begins with two, an MP4 with up to three
IN_A_ROW = 3  # frames of MP3 or AAC that follow each other; fewer are found in random bytes


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file is.

    Parameters
    ----------
    name
        Its format as people call it, such as "MP4" or "HTML".
    demuxer
        FFmpeg's name of the reader for it; empty if it is not sound.
    remedy
        If it is not sound: what to do instead.
    begin
        Number of bytes before the format begins: tags, zeros and other bytes that are skipped.
    """

    name: str
    demuxer: str = ""
    remedy: str = f"use {AUDIO_NAMES}"
    begin: int = 0


MP3, AAC, AC3 = Kind("MP3", "mp3"), Kind("AAC", "aac"), Kind("AC-3", "ac3")
MP4 = Kind("MP4", "mov")
SOUND = (  # (offset, bytes), ... at the start of a file
    (Kind("WAV", "wav"), (0, b"RIFF"), (8, b"WAVE")),
    (Kind("WAV", "wav"), (0, b"RF64"), (8, b"WAVE")),
    (Kind("AVI", "avi"), (0, b"RIFF"), (8, b"AVI ")),
    (Kind("FLAC", "flac"), (0, b"fLaC")),
    (Kind("Ogg", "ogg"), (0, b"OggS")),
    (Kind("AIFF", "aiff"), (0, b"FORM"), (8, b"AIF")),
    (Kind("AU", "au"), (0, b".snd")),
    (Kind("CAF", "caf"), (0, b"caff")),
    (Kind("Matroska or WebM", "matroska"), (0, b"\x1aE\xdf\xa3")),
    (Kind("WMA", "asf"), (0, b"0&\xb2u\x8ef\xcf\x11\xa6\xd9\0\xaa\0b\xcel")),
    (Kind("AMR", "amr"), (0, b"#!AMR")),
    (AC3, (0, b"\x0bw")),
    (Kind("WavPack", "wv"), (0, b"wvpk")),
    (Kind("MPEG", "mpeg"), (0, b"\0\0\1\xba")),
    *((MP4, (4, box)) for box in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")),
)
IMAGE = Kind("an image")
PICTURE = rb"....ftyp(hei|hev|mif|msf|avi|crx)"  # HEIC and AVIF lie in a file like MP4
LIST = "it only names sounds; fetch the sound itself"
OTHER = (  # a pattern at the start of a file that is not sound
    (
        Kind("HTML", remedy="it is a web page; fetch the sound itself"),
        rb"\s*(<\?xml[^>]*>\s*)?(<!--((?!-->).)*-->\s*)?<(!doctype html|html|head|body|script|meta|div)",
    ),
    (Kind("a playlist", remedy=LIST), rb"\s*(#EXTM3U|\[playlist\]|ffconcat|v=0\r?\no=|.{0,200}<MPD|<asx)"),
    (Kind("a Git LFS pointer", remedy="run git lfs pull"), rb"version https://git-lfs"),
    (Kind("XML", remedy="fetch the sound itself"), rb"\s*<\?xml"),
    (Kind("MIDI", remedy="it holds notes; render them to sound"), rb"MThd"),
    (Kind("PDF"), rb"%PDF"),
    (
        Kind("an archive", remedy="unpack it"),
        rb"PK(\x03\x04|\x05\x06)|Rar!|7z\xbc\xaf|\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|.{257}ustar",
    ),
    (IMAGE, rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF....WEBP|BM....\0\0\0\0|II\*\0|MM\0\*|8BPS|\0\0\x01\0|\s*<svg"),
    (Kind("an Office document"), rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1|\{\\rtf"),
    (Kind("a program"), rb"MZ.{58,}|\x7fELF"),
    (Kind("a table of numbers"), rb"\x93NUMPY|\x89HDF|SQLite format 3"),
    (Kind("only zero bytes", remedy="copy or fetch the file again"), rb"\0+\Z"),
    (Kind("text"), rb"[^\x00-\x08\x0e-\x1f]+\Z"),
)
UNKNOWN = Kind("")
OTHER_FILES = MimeTypes()  # the types that Python knows, whatever this machine adds

# Bit rates of MPEG audio, kbit/s, by version (V1, V2) and layer (L1 to L3)
V1L1 = (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448)
V1L2 = (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384)
V1L3 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
V2L1 = (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256)
V2L3 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
BITRATES = {(3, 3): V1L1, (3, 2): V1L2, (3, 1): V1L3, (2, 3): V2L1, (2, 2): V2L3, (2, 1): V2L3}
AC3_RATES = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
RATES = (44_100, 48_000, 32_000)  # Hz of version 1; halved in version 2, quartered in 2.5


def recognise(file: BinaryIO) -> Kind:
    """Recognise a file by its content, which is the same for a path and for bytes.

    Tags and zero bytes at its start are skipped, and before MP3 or AAC up to 128 KB of other bytes.

    Parameters
    ----------
    file
        An open file that can seek. Its position changes.

    Returns
    -------
    Kind
        A kind without a name if the content is unknown.
    """
    begin = _after_padding(file)
    file.seek(begin)
    start = file.read(START)
    if re.match(PICTURE, start, re.DOTALL):
        return IMAGE
    if found := _sound(start):
        return replace(found, begin=begin)
    file.seek(begin)
    head = file.read(HEAD)
    if (kind := _in_a_row(head, 0)) is not UNKNOWN:
        return replace(kind, begin=begin)
    text = head.removeprefix(b"\xef\xbb\xbf")  # the mark of UTF-8
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):  # the marks of UTF-16
        text = head.decode("utf-16", "ignore").encode(errors="ignore")
    flags = re.DOTALL | re.IGNORECASE
    other = next((kind for kind, mark in OTHER if re.match(mark, text, flags)), UNKNOWN)
    if other.name:
        return other
    kind, place = _first_frames(head)
    return replace(kind, begin=begin + place)


def misnamed(path: Path) -> str | None:
    """What to do with a file that is sound by its first bytes, but not by its suffix; None if it is not.

    A file with the suffix of pictures, texts or other known files is not opened.
    """
    kind = OTHER_FILES.guess_type(path.name, strict=False)[0] or "audio"
    if not kind.startswith(("audio", "video", "application/octet-stream")):
        return None
    try:
        with path.open("rb") as file:
            found = recognise(file)
    except OSError as error:
        return f"unreadable: {error.strerror}"
    if not found.demuxer:
        return None
    wrong = f"the suffix {path.suffix}" if path.suffix else "no suffix"
    return f"{found.name} with {wrong}; rename it to end in {FORMATS.get(found.name, ('.mkv',))[0]}"


def _sound(head: bytes) -> Kind | None:
    """The format of sound that begins with these bytes, if it has a mark."""
    for kind, *marks in SOUND:
        if all(head[at : at + len(mark)] == mark for at, mark in marks):
            return kind
    return None


def _after_padding(file: BinaryIO) -> int:
    """Number of bytes of tags (ID3v2, APE) and zeros at the start of a file."""
    place = 0
    for _ in range(MOST_TAGS):
        file.seek(place)
        head = file.read(32)
        if head[:3] == b"ID3" and len(head) == 32:
            a, b, c, d = (byte & 127 for byte in head[6:10])
            place += 10 + (a << 21 | b << 14 | c << 7 | d)
        elif head[:8] == b"APETAGEX" and len(head) == 32:
            place += 32 + int.from_bytes(head[12:16], "little")
        elif head[:4] == bytes(4) and (zeros := _zeros(file, place)) >= LEAST_ZEROS:
            place += zeros
        else:
            break
    return place


def _zeros(file: BinaryIO, place: int) -> int:
    """Number of zero bytes from `place` on; 0 if there is nothing else up to the end of the file."""
    file.seek(place)
    count = 0
    while block := file.read(HEAD):
        left = block.lstrip(b"\0")
        count += len(block) - len(left)
        if left:
            return count
    return 0


def _first_frames(head: bytes) -> tuple[Kind, int]:
    """MP3 or AAC and its first byte, if some frames follow each other somewhere; else `UNKNOWN`."""
    for found in re.finditer(rb"\xff[\xe0-\xff]", head):
        if (kind := _in_a_row(head, found.start())) is not UNKNOWN:
            return kind, found.start()
    return UNKNOWN, 0


def _in_a_row(head: bytes, place: int) -> Kind:
    """MP3 or AAC, if some frames follow each other from this byte on; else `UNKNOWN`."""
    kind = UNKNOWN
    for _ in range(IN_A_ROW):
        one, length = frame(head[place : place + 6])
        if not length or one is AC3 or kind not in (UNKNOWN, one):
            return UNKNOWN
        kind, place = one, place + length
    return kind


def frame(head: bytes) -> tuple[Kind, int]:
    """Kind and length in bytes of the frame of MP3, AAC or AC-3 that begins with these 6 bytes.

    The length is 0 if no frame begins there.
    """
    if len(head) < 6 or ((head[0] != 255 or head[1] < 224) and head[:2] != b"\x0bw"):
        return MP3, 0
    if head[0] == 0x0B:
        return AC3, _ac3_length(head)
    if head[1] & 0xF6 == 0xF0:
        length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
        return AAC, length if length > 7 and (head[2] >> 2 & 15) < 13 else 0
    return MP3, _mpeg_length(head)


def _ac3_length(head: bytes) -> int:
    """Length of a frame of AC-3 or E-AC-3."""
    if head[5] >> 3 > 10:
        return 2 * ((head[2] & 7) << 8 | head[3]) + 2
    rate, code = head[4] >> 6, head[4] & 63
    if rate == 3 or code >= 2 * len(AC3_RATES):
        return 0
    kilobits = AC3_RATES[code >> 1]
    return {0: 4 * kilobits, 1: 2 * (kilobits * 320 // 147 + (code & 1)), 2: 6 * kilobits}[rate]


def _mpeg_length(head: bytes) -> int:
    """Length of a frame of MPEG audio."""
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3  # 3, 2, 0: version 1, 2, 2.5; 3, 2, 1: layer 1, 2, 3
    bits, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 0 or rate == 3 or bits in (0, 15):
        return 0
    hertz = RATES[rate] >> {3: 0, 2: 1, 0: 2}[version]
    bytes_of = 1000 * BITRATES[max(version, 2), layer][bits] / hertz  # per sample, times 8
    padding = head[2] >> 1 & 1
    if layer == 3:
        return (int(12 * bytes_of) + padding) * 4
    return int((72 if layer == 1 and version != 3 else 144) * bytes_of) + padding

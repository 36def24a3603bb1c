"""Whether a file ends where its format says, or a download or a copy of it broke off.

A header states a length, an Ogg stream has a last page, and a frame has a length of its own.
"""

import re
from collections.abc import Callable
from typing import BinaryIO

from mer.audio.formats import Kind, frame

__all__ = ["UNKNOWN_SHARE", "has_second_stream", "share_present", "states_frames", "tags_begin"]

UNKNOWN_SHARE = 0.0  # the file breaks off, but does not say how much is missing
TAIL = 2**16  # bytes at the end in which the last page or frame begins; a page of Ogg has fewer
FRAMES = 3  # frames that must follow each other up to the end
XING = re.compile(rb"Xing|Info|VBRI")
HEAD = 256  # bytes of a frame in which those marks stand
FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")  # an object of ASF


def share_present(file: BinaryIO, kind: Kind) -> float:
    """Share of a file that is there, by its own structure.

    For files of plain samples see `mer.audio.chunks.Chunk.share`.

    Parameters
    ----------
    file
        An open file that can seek. Its position changes.
    kind
        Its format.

    Returns
    -------
    float
        From 0 to 1; 1 if nothing shows that some is missing, `UNKNOWN_SHARE` if it is unknown how much is.
    """
    check = CHECKS.get(kind.name)
    return check(file, kind) if check else 1.0


def tags_begin(file: BinaryIO) -> int:
    """Position of the tags (ID3v1, APE) at the end of a file; its size if there are none."""
    end = file.seek(0, 2)
    for _ in range(2):
        file.seek(max(0, end - 128))
        tail = file.read(min(end, 128))
        if tail[:3] == b"TAG" and len(tail) == 128:
            end -= 128
        elif tail[-32:-24] == b"APETAGEX":
            size, flags = (int.from_bytes(tail[place : place + 4], "little") for place in (-20, -12))
            end = max(0, end - size - (32 if flags >> 31 else 0))
    return end


def states_frames(file: BinaryIO, kind: Kind) -> bool:
    """True if the first frame of an MP3 states the number of frames (Xing, Info or VBRI)."""
    file.seek(kind.begin)
    return bool(XING.search(file.read(HEAD)))


def has_second_stream(file: BinaryIO, kind: Kind) -> bool:
    """True if another stream follows in an Ogg file, as where two were joined."""
    if kind.name != "Ogg":
        return False
    file.seek(kind.begin)
    content = file.read()
    first = re.search(rb"OggS\0[^\2\3\6\7]", content)  # a page that does not begin a stream
    return bool(first and re.compile(rb"OggS\0[\2\3\6\7]").search(content, first.end()))


def _of_frames(file: BinaryIO, kind: Kind) -> float:
    """MP3, AAC and AC-3: the frames at the end follow each other, and the last one is whole.

    What follows no frame, such as an unknown tag, is no sign that some is missing.
    """
    if kind.name == "MP3" and states_frames(file, kind):
        return 1.0
    end = tags_begin(file)
    begin = max(kind.begin, end - TAIL // 4)
    file.seek(begin)
    tail = file.read(end - begin)
    for found in re.finditer(rb"\xff[\xe0-\xff]|\x0bw", tail):
        place, count = found.start(), 0
        while place < len(tail):
            one, length = frame(tail[place : place + 6].ljust(6, b"\0"))
            if one.name != kind.name or not length:
                break
            place, count = place + length, count + 1
        if count > FRAMES and place >= len(tail):
            return 1.0 if place == len(tail) else UNKNOWN_SHARE
    return 1.0


def _tail(file: BinaryIO, kind: Kind) -> bytes:
    """The last bytes of a file, without what stands in front of its format."""
    file.seek(max(kind.begin, file.seek(0, 2) - TAIL))
    return file.read()


def _of_ogg(file: BinaryIO, kind: Kind) -> float:
    """The last page of Ogg is whole, and marked as the last."""
    tail = _tail(file, kind)
    place = tail.rfind(b"OggS\0")
    page = tail[place:]
    if place < 0 or len(page) < 27 or len(page) < 27 + page[26]:
        return UNKNOWN_SHARE
    length = 27 + page[26] + sum(page[27 : 27 + page[26]])
    return 1.0 if page[5] & 4 and length <= len(page) else UNKNOWN_SHARE


def _of_avi(file: BinaryIO, kind: Kind) -> float:
    """AVI states its size."""
    end = file.seek(0, 2)
    file.seek(kind.begin + 4)
    size = int.from_bytes(file.read(4), "little")
    return UNKNOWN_SHARE if end - kind.begin < size else 1.0


def _of_wma(file: BinaryIO, kind: Kind) -> float:
    """WMA states its size in one of its first objects."""
    end = file.seek(0, 2)
    file.seek(kind.begin)
    head = file.read(TAIL)
    place = head.find(FILE_PROPERTIES)
    size = int.from_bytes(head[place + 40 : place + 48], "little") if place > 0 else 0
    return UNKNOWN_SHARE if end - kind.begin < size else 1.0


def _of_mpeg(file: BinaryIO, kind: Kind) -> float:
    """The last packet of MPEG is whole."""
    tail = _tail(file, kind)
    place = tail.rfind(b"\0\0\1\xba")
    while place >= 0 and place + 14 <= len(tail) and tail[place : place + 3] == b"\0\0\1":
        code = tail[place + 3]
        if code == 0xBA:  # MPEG-2 packs have 14 bytes and padding, those of MPEG-1 have 12
            place += 14 + (tail[place + 13] & 7) if tail[place + 4] >> 6 == 1 else 12
        elif code == 0xB9:
            return 1.0
        else:
            place += 6 + int.from_bytes(tail[place + 4 : place + 6], "big")
    return UNKNOWN_SHARE if place > len(tail) or 0 < len(tail) - place < 14 else 1.0


CHECKS: dict[str, Callable[[BinaryIO, Kind], float]] = {
    "MP3": _of_frames,
    "AAC": _of_frames,
    "AC-3": _of_frames,
    "Ogg": _of_ogg,
    "AVI": _of_avi,
    "WMA": _of_wma,
    "MPEG": _of_mpeg,
}

"""Where a file of plain samples keeps them, and whether its header says so.

A recorder that is killed leaves the size of the samples at 0 or at an earlier value, a program that writes to
a pipe never knows it, and a copy that breaks off holds less than its header says. The size is therefore
compared with the bytes that are there.
"""

from dataclasses import dataclass
from typing import BinaryIO, Literal

from mer.audio.formats import Kind

__all__ = ["Chunk", "sound_chunk"]

MOST = 64  # chunks in front of the samples
OPEN = 0x7FFF_0000  # sizes from here on are written by programs that do not know the size
SLACK = 4096  # bytes behind the samples that need no explanation, such as a tag
TAGS = (b"ID3", b"TAG", b"APETAGEX", b"\0\0\0\0")  # what other programs put behind the samples
Order = Literal["big", "little"]
BIG: Order = "big"
LITTLE: Order = "little"


@dataclass(frozen=True, slots=True)
class Chunk:
    """The part of a file that holds its samples.

    Parameters
    ----------
    place
        Position of the field with its size.
    field
        What should stand in this field: the number of bytes up to the end of the file.
    begin
        Position of the first sample.
    size
        Size in bytes as the header states it.
    available
        Bytes from the first sample to the end of the file.
    follows
        The bytes that follow the stated end, at most 8.
    """

    place: int
    field: bytes
    begin: int
    size: int
    available: int
    follows: bytes = b""

    @property
    def share(self) -> float:
        """Share of the stated samples that is there, 0 to 1; 1 if no size is stated."""
        if not 0 < self.size < OPEN or self.size <= self.available:
            return 1.0
        return self.available / self.size

    @property
    def false(self) -> bool:
        """True if samples go on behind the stated end."""
        left = self.available - self.size
        if self.size == 0:
            return left > 0 and not _is_chunk(self.follows, left)
        return left > SLACK and not self.follows.startswith(TAGS) and not _is_chunk(self.follows, left)


def sound_chunk(file: BinaryIO, kind: Kind) -> Chunk | None:
    """Find the samples of a WAV, AIFF, AU or CAF file; None for other formats, or if there are none.

    Parameters
    ----------
    file
        An open file that can seek. Its position changes.
    kind
        Its format.
    """
    name, begin = kind.name, kind.begin
    end = file.seek(0, 2)
    file.seek(begin)
    head = file.read(64)
    if name == "AU" and len(head) >= 24:
        first = begin + int.from_bytes(head[4:8], BIG)
        return _chunk(file, begin + 8, 4, BIG, first, int.from_bytes(head[8:12], BIG), end)
    if name == "CAF":
        return _among(file, begin + 8, b"data", 8, BIG, end)
    if name == "AIFF":
        return _among(file, begin + 12, b"SSND", 4, BIG, end)
    if name != "WAV":
        return None
    if head[:4] == b"RF64" and head[12:16] == b"ds64":  # the size stands there in 64 bits
        found = _among(file, begin + 12, b"data", 4, LITTLE, end)
        stated = int.from_bytes(head[28:36], LITTLE)
        return found and _chunk(file, begin + 28, 8, LITTLE, found.begin, stated, end)
    return _among(file, begin + 12, b"data", 4, LITTLE, end)


def _among(file: BinaryIO, place: int, mark: bytes, width: int, order: Order, end: int) -> Chunk | None:
    """Find the chunk with this mark among those from `place` on."""
    for _ in range(MOST):
        file.seek(place)
        head = file.read(4 + width)
        if len(head) < 4 + width:
            return None
        size, begin = int.from_bytes(head[4:], order), place + 4 + width
        if head[:4] == mark:
            return _chunk(file, place + 4, width, order, begin, size, end)
        place = begin + size + (size & 1 if width == 4 else 0)
    return None


def _chunk(file: BinaryIO, place: int, width: int, order: Order, begin: int, size: int, end: int) -> Chunk:
    """A chunk, with the bytes that follow it."""
    file.seek(min(begin + size, end))
    available = max(end - begin, 0)
    field = min(available, 2 ** (8 * width) - 1).to_bytes(width, order)
    return Chunk(place, field, begin, size, available, file.read(9))


def _is_chunk(head: bytes, left: int) -> bool:
    """True if another chunk begins with these bytes, or with the second of them, after one of padding."""
    return any(
        part[:4].isascii()
        and part[:4].decode("ascii").isprintable()
        and min(int.from_bytes(part[4:8], order) for order in (LITTLE, BIG)) <= left
        for part in (head, head[1:])
        if len(part) >= 8
    )

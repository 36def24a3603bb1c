"""Hostile zips that no program makes. Each function returns the bytes of one.

`python -m tests.hostile_zips` prints the result, time and memory for each.
"""

import io
import json
import struct
import sys
import time
import zipfile
import zlib
from pathlib import Path

from tests.memory import peak

__all__ = ["bomb", "endless", "entries", "linked", "overlapping", "packed_by"]

LOCAL, CENTRAL, END = "<4s5H3L2H", "<4s4B4H3L5H2L", "<4s4H2LH"


def _local(name: bytes, packed: bytes, size: int, crc: int, method: int) -> bytes:
    head = struct.pack(LOCAL, b"PK\x03\x04", 20, 0x800, method, 0, 33, crc, len(packed), size, len(name), 0)
    return head + name + packed


def _central(name: bytes, packed: int, size: int, crc: int, method: int, at: int, mode: int = 0) -> bytes:
    numbers = (20, 3, 20, 0, 0x800, method, 0, 33, crc, packed, size, len(name), 0, 0, 0, 0, mode << 16, at)
    return struct.pack(CENTRAL, b"PK\x01\x02", *numbers) + name


def _end(count: int, size: int, at: int) -> bytes:
    return struct.pack(END, b"PK\x05\x06", 0, 0, count & 0xFFFF, count & 0xFFFF, size, at, 0)


def entries(names: list[str], content: bytes = b"x", *, mode: int = 0) -> bytes:
    """A plain zip with the same stored content under each of these names."""
    crc, out, listed = zlib.crc32(content), bytearray(), bytearray()
    for name in names:
        listed += _central(name.encode(), len(content), len(content), crc, 0, len(out), mode)
        out += _local(name.encode(), content, len(content), crc, 0)
    return bytes(out + listed) + _end(len(names), len(listed), len(out))


def endless(count: int) -> bytes:
    """A zip that is only a list: `count` entries with the same place in the file."""
    first = _local(b"a/0000000.wav", b"x", 1, zlib.crc32(b"x"), 0)
    rows = (_central(b"a/%07d.wav" % number, 1, 1, zlib.crc32(b"x"), 0, 0) for number in range(count))
    listed = b"".join(rows)
    return first + listed + _end(count, len(listed), len(first))


def _zeros(size: int) -> bytes:
    pack = zlib.compressobj(9, zlib.DEFLATED, -15)
    return b"".join([*(pack.compress(bytes(2**20)) for _ in range(size >> 20)), pack.flush()])


def bomb(size: int = 2**30, *, claimed: int | None = None) -> bytes:
    """A file of `size` zeros (a multiple of 2**20), packed to a thousandth; it may declare another size."""
    packed, name, claim = _zeros(size), b"a/0.wav", size if claimed is None else claimed
    crc = zlib.crc32(bytes(claim)) if claim < 2**20 else 0
    listed = _central(name, len(packed), claim, crc, 8, 0)
    data = _local(name, packed, claim, crc, 8)
    return data + listed + _end(1, len(listed), len(data))


def overlapping(count: int = 500, size: int = 2**20) -> bytes:
    """`count` entries of `size` zeros that share the same packed bytes (after Fifield, 2019)."""
    packed, crc = _zeros(size), zlib.crc32(bytes(size))
    data = _local(b"a/0.wav", packed, size, crc, 8)
    listed = b"".join(_central(b"a/%d.wav" % n, len(packed), size, crc, 8, 0) for n in range(count))
    return data + listed + _end(count, len(listed), len(data))


def linked(name: str, target: str) -> bytes:
    """A symbolic link to `target`, as packed on Unix."""
    return entries([name], target.encode(), mode=0o120777)


def packed_by(method: int) -> bytes:
    """A zip with a rarer compression, such as zipfile.ZIP_BZIP2: 4 MB of zeros in a few bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("a/0.wav", bytes(2**22))
    return out.getvalue()


ALL = {
    "a million entries": lambda: endless(10**6),
    "a bomb of 4 GB": lambda: bomb(2**32 - 2**20),
    "500 MB in one place": overlapping,
    "64 MB that claim to be 10 bytes": lambda: bomb(2**26, claimed=10),
    "packed by bzip2": lambda: packed_by(zipfile.ZIP_BZIP2),
}


def main() -> None:
    """Unpack the named zip, or each zip in its own process."""
    import subprocess
    import tempfile

    from mer.data.zips import unpack_zip
    from mer.utils.errors import MerError

    if len(sys.argv) < 2:
        for name, make in ALL.items():
            with tempfile.NamedTemporaryFile(suffix=".zip") as file:
                Path(file.name).write_bytes(make())
                subprocess.run([sys.executable, "-m", "tests.hostile_zips", file.name, name], check=True)
        return
    before, started = peak(), time.perf_counter()
    try:
        unpack_zip(Path(sys.argv[1]))
        said = "unpacked"
    except MerError as error:
        said = str(error)
    seconds = round(time.perf_counter() - started, 3)
    grown = peak() - before
    found = {"zip": sys.argv[2], "seconds": seconds, "more_mb": round(grown, 1), "said": said}
    sys.stdout.write(f"{json.dumps(found)}\n")


if __name__ == "__main__":
    main()

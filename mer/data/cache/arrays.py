"""Arrays on disk: one .npy file each, followed by a checksum, so that damage is detected on reading."""

import io
import json
import zlib
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from mer.utils.errors import StorageError
from mer.utils.files import write_atomic

__all__ = ["ABOUT", "ArrayFile", "Shelf", "is_whole", "read_array", "write_array"]

ABOUT = "about.json"
CHECKSUM = 4  # bytes at the end of a file: CRC-32 of all bytes before them


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an array to a file, which is never seen half-written. Raises StorageError."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    buffer.write(zlib.crc32(buffer.getbuffer()).to_bytes(CHECKSUM, "big"))
    write_atomic(path, buffer.getbuffer(), durable=False)


def _checked(path: Path) -> memoryview:
    """The bytes of a file before its checksum. Raises ValueError if the checksum does not match."""
    content = memoryview(path.read_bytes())
    body, checksum = content[:-CHECKSUM], content[-CHECKSUM:]
    if not len(body) or zlib.crc32(body).to_bytes(CHECKSUM, "big") != checksum:
        raise ValueError(f"{path} is damaged")
    return body


def is_whole(path: Path) -> bool:
    """True if the file exists and its checksum matches."""
    try:
        _checked(path)
    except (OSError, ValueError):
        return False
    return True


def read_array(path: Path) -> np.ndarray:
    """Read an array. Raises FileNotFoundError, or ValueError if the file is damaged."""
    return np.load(io.BytesIO(_checked(path)), allow_pickle=False)


@dataclass(frozen=True, slots=True)
class ArrayFile:
    """An array on disk. The file is mapped only while a part of it is copied.

    While a map is open, each page read through it counts as memory of the process.
    """

    path: Path
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int

    @classmethod
    def open(cls, path: Path) -> "ArrayFile":
        """Open the array in a file, without verifying its checksum.

        Raises FileNotFoundError, or ValueError if the file holds no array.
        """
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        return cls(path, array.dtype, array.shape, array.offset)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | slice) -> np.ndarray:
        """A copy of one or several rows."""
        return np.array(np.memmap(self.path, self.dtype, "r", self.offset, self.shape)[index])

    @property
    def nbytes(self) -> int:
        """Size of the whole array in bytes."""
        return int(np.prod(self.shape)) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Shelf:
    """A folder of arrays made with the same settings, one per clip. Its name is a hash of the settings."""

    folder: Path
    settings: dict[str, Any]

    @classmethod
    def of(cls, place: Path, settings: dict[str, Any]) -> "Shelf":
        """The shelf for these settings (plain data) below `place`."""
        text = json.dumps(settings, sort_keys=True)
        return cls(place / blake2b(text.encode(), digest_size=8).hexdigest(), settings)

    def path(self, file_hash: str) -> Path:
        """The path of the entry for a file hash, whether or not it exists."""
        return self.folder / file_hash[:2] / f"{file_hash}.npy"

    def mark_used(self) -> None:
        """Write the settings into the shelf. The modification time of the file says when it was last used."""
        with suppress(StorageError):  # a read-only shelf can still be used
            write_atomic(self.folder / ABOUT, json.dumps(self.settings), durable=False)

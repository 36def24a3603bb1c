"""One array to a file, as numpy writes it, with a checksum behind it: damage is found, not trained on."""

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
CHECKSUM = 4  # bytes: CRC-32 of all that precedes it


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an array in one step; raises StorageError."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    buffer.write(zlib.crc32(buffer.getbuffer()).to_bytes(CHECKSUM, "big"))
    write_atomic(path, buffer.getbuffer(), durable=False)


def _checked(path: Path) -> memoryview:
    """The bytes of a file before its checksum; raises ValueError unless they are what was written."""
    content = memoryview(path.read_bytes())
    body, checksum = content[:-CHECKSUM], content[-CHECKSUM:]
    if not len(body) or zlib.crc32(body).to_bytes(CHECKSUM, "big") != checksum:
        raise ValueError(f"{path} is damaged")
    return body


def is_whole(path: Path) -> bool:
    """True if the file exists and holds what was written."""
    try:
        _checked(path)
    except (OSError, ValueError):
        return False
    return True


def read_array(path: Path) -> np.ndarray:
    """The array; raises FileNotFoundError, or ValueError if the file is damaged."""
    return np.load(io.BytesIO(_checked(path)), allow_pickle=False)


@dataclass(frozen=True, slots=True)
class ArrayFile:
    """An array on disk that takes no memory: it is mapped for as long as a part of it is copied.

    A map that stays open would count as memory of this process page by page, and there are many clips.
    """

    path: Path
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int

    @classmethod
    def open(cls, path: Path) -> "ArrayFile":
        """The array in a file; raises FileNotFoundError, or ValueError if it is none."""
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        return cls(path, array.dtype, array.shape, array.offset)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | slice) -> np.ndarray:
        """A copy of a part."""
        return np.array(np.memmap(self.path, self.dtype, "r", self.offset, self.shape)[index])

    @property
    def nbytes(self) -> int:
        """Size of the whole array."""
        return int(np.prod(self.shape)) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Shelf:
    """Arrays made with the same settings, one for each file hash, below a folder named by the settings."""

    folder: Path
    settings: dict[str, Any]

    @classmethod
    def of(cls, place: Path, settings: dict[str, Any]) -> "Shelf":
        """The shelf of these settings (plain data) below `place`."""
        text = json.dumps(settings, sort_keys=True)
        return cls(place / blake2b(text.encode(), digest_size=8).hexdigest(), settings)

    def path(self, file_hash: str) -> Path:
        """Where the entry of a file is, or would be."""
        return self.folder / file_hash[:2] / f"{file_hash}.npy"

    def mark_used(self) -> None:
        """Note what the shelf holds and, by the time of that note, that it was used now."""
        with suppress(StorageError):  # entries can be used from a place that cannot be written
            write_atomic(self.folder / ABOUT, json.dumps(self.settings), durable=False)

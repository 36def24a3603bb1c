"""File names and record formats of a sharded set."""

import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mer.utils.errors import DataError, reason_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["INDEX", "crc_of", "damaged", "open_names", "read_json", "record", "shard_path"]

INDEX = np.dtype(
    [
        ("row", "<i8"),  # line of clips.arrow
        ("label", "<i2"),
        ("part", "i1"),  # index into `mer.data.hash_splits.PARTS` from the manifest, or -1
        ("shard", "<i4"),
        ("first", "<i4"),  # its first window in the shard
        ("windows", "<i4"),
        ("clip", "<u8"),  # key of the clip's name
        ("group", "<u8"),  # key of its song, or of its name if the song is unknown
    ]
)


def record(shape: tuple[int, int]) -> np.dtype:
    """The format of one image (rows, columns) in a shard, with its CRC-32.

    An image of one row is a waveform, in float32; others are float16.
    """
    return np.dtype([("image", "<f4" if shape[0] == 1 else "<f2", shape), ("crc", "<u4")])


def shard_path(root: Path, number: int, suffix: str = ".bin") -> Path:
    """The path of a shard's file, whether or not it exists.

    Parameters
    ----------
    root
        The folder of the set.
    number
        Number of the shard, from 0.
    suffix
        ".bin" for the images, ".parquet" for the results of its clips.
    """
    return root / "shards" / f"{number:05}{suffix}"


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises DataError if the file is damaged."""
    try:
        found = json.loads(path.read_text("utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it is not an object")
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read ({error}); prepare the set again in a new folder") from error
    return found


def open_names(root: Path, *, full: bool = False) -> "pa.Table":
    """Map the table of clips. Only the parts that are used are read from disk.

    Parameters
    ----------
    root
        The folder of the set.
    full
        Check every value. Arrow does not check what it maps, so a set from somewhere else needs this once.

    Raises
    ------
    DataError
        If the table is damaged.
    """
    import pyarrow as pa

    try:
        table = pa.ipc.open_file(pa.memory_map(str(root / "clips.arrow"))).read_all()
        table.validate(full=full)
        return table
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{root / 'clips.arrow'} cannot be read ({reason_of(error)}); "
            "prepare the set again in a new folder"
        ) from error


def crc_of(path: Path) -> int:
    """CRC-32 of a file."""
    found = 0
    with path.open("rb") as file:
        while content := file.read(2**20):
            found = zlib.crc32(content, found)
    return found


def damaged(path: Path, reason: str) -> DataError:
    """The error to raise for a damaged file."""
    return DataError(f"{path} is damaged ({reason}); run the same mer prepare again to repair it")

"""Where the files of a sharded set are, and how a record of a shard is laid out."""

import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mer.utils.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["INDEX", "crc_of", "damaged", "open_names", "read_json", "record", "shard_path"]

INDEX = np.dtype(
    [
        ("row", "<i8"),  # line of clips.arrow
        ("label", "<i2"),
        ("part", "i1"),  # of `mer.data.hash_splits.PARTS`, as the manifest says
        ("shard", "<i4"),
        ("first", "<i4"),  # window of the shard
        ("windows", "<i4"),
        ("clip", "<u8"),  # key of its name
        ("group", "<u8"),  # key of its song, or of its name where no song is known
    ]
)


def record(size: int) -> np.dtype:
    """An image of a shard and its CRC-32."""
    return np.dtype([("image", "<f2", (size, size)), ("crc", "<u4")])


def shard_path(root: Path, number: int, suffix: str = ".bin") -> Path:
    """Where a shard's images are, or would be."""
    return root / "shards" / f"{number:05}{suffix}"


def read_json(path: Path) -> dict[str, Any]:
    """An object; raises DataError if it is damaged."""
    try:
        found = json.loads(path.read_text("utf-8"))
        if not isinstance(found, dict):
            raise ValueError("no object")
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read ({error}); prepare the set again in a new folder") from error
    return found


def open_names(root: Path, *, full: bool = False) -> "pa.Table":
    """What the manifest says of each clip, mapped: only what is looked at is read.

    A set of others is looked at in `full` once, for Arrow trusts what it maps. Raises DataError.
    """
    import pyarrow as pa

    try:
        table = pa.ipc.open_file(pa.memory_map(str(root / "clips.arrow"))).read_all()
        table.validate(full=full)
        return table
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{root / 'clips.arrow'} cannot be read ({str(error).splitlines()[0]}); "
            "prepare the set again in a new folder"
        ) from error


def crc_of(path: Path) -> int:
    """CRC-32 of a file, read a piece at a time."""
    found = 0
    with path.open("rb") as file:
        while content := file.read(2**20):
            found = zlib.crc32(content, found)
    return found


def damaged(path: Path, reason: str) -> DataError:
    """What to raise for a file that does not hold what was written."""
    return DataError(
        f"{path} is damaged ({reason}); run its mer prepare again: it makes anew what is damaged"
    )

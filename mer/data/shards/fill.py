"""Make one shard.

A shard depends only on the plan and its number, so shards can be made in any order, by any process, on any
machine.
"""

import socket
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mer.audio.decode import decode
from mer.audio.mel import images
from mer.audio.resampling import resample
from mer.config.sections import AudioConfig, MelConfig
from mer.data.clips import PLAN
from mer.data.shards.layout import open_names, read_json, record, shard_path
from mer.data.shards.sources import Sources
from mer.utils.errors import AudioError, StorageError
from mer.utils.files import atomic_path
from mer.utils.parallel import one_thread

__all__ = ["Filled", "fill", "read_facts", "shards_of", "write_facts"]


@dataclass(frozen=True, slots=True)
class Filled:
    """Counts of one shard: usable clips, and clips that were left out."""

    clips: int
    left_out: int
    size: int  # bytes of images


def shards_of(plan: dict[str, Any]) -> range:
    """Numbers of the shards in a plan."""
    return range(-(-plan["clips"] // plan["per_shard"]))


def fill(out: Path, number: int) -> Filled:
    """Make one shard, unless it exists and is undamaged.

    Parameters
    ----------
    out
        The folder of the set, with its plan.
    number
        Number of the shard, from 0.

    Raises
    ------
    StorageError
        If this machine does not see `out`, or cannot write to it.
    DataError
        If a server fails while clips are read.
    """
    if not (out / PLAN).is_file():
        raise StorageError(f"{out} is not to be seen on {socket.gethostname()}; give a folder that all share")
    plan = read_json(out / PLAN)
    audio, mel = AudioConfig.from_key(plan["audio"]), MelConfig.from_key(plan["mel"])
    facts = read_facts(out, number)
    if facts is None or not _is_whole(out, number, facts, record(mel.image_shape(audio))):
        facts = _write_shard(out, number, plan, audio, mel)
    windows = facts["windows"]
    size = int(windows.sum()) * record(mel.image_shape(audio)).itemsize
    return Filled(int((windows > 0).sum()), int((windows == 0).sum()), size)


def _write_shard(
    out: Path, number: int, plan: dict[str, Any], audio: AudioConfig, mel: MelConfig
) -> dict[str, np.ndarray]:
    """Write the images, then the facts. If the facts exist, both are complete."""
    rows = np.load(out / "order.npy", mmap_mode="r", allow_pickle=False)
    rows = rows[number * plan["per_shard"] : (number + 1) * plan["per_shard"]]
    sources = Sources(Path(plan["root"]), tuple(plan["allowed"]))
    shard_path(out, number, ".parquet").unlink(missing_ok=True)
    windows, contents, reasons = [], [], []
    with one_thread(), atomic_path(shard_path(out, number)) as temporary, temporary.open("wb") as file:
        for name in open_names(out).column("name").take(rows).to_pylist():
            try:
                found, content = _features(sources.read(name), audio, mel)
            except AudioError as error:
                found, content = np.empty(0, record(mel.image_shape(audio))), b""
                reasons.append(str(error).removeprefix(": "))
            else:
                reasons.append(None)
            file.write(found.data)
            windows.append(len(found))
            contents.append(content)
    write_facts(out, number, rows, windows, contents, reasons)
    return read_facts(out, number)


def _features(content: bytes, audio: AudioConfig, mel: MelConfig) -> tuple[np.ndarray, bytes]:
    """The records of a clip's windows, and the hash of its decoded audio."""
    if not content:
        raise AudioError("empty file, 0 bytes")
    clip = decode(content, name="")
    wave = resample(clip.waveform, rate=clip.rate, audio=audio, checked=True)
    found = images(wave, audio=audio, mel=mel)
    records = np.empty(len(found), record(mel.image_shape(audio)))
    records["image"] = found
    records["crc"] = [zlib.crc32(image) for image in found]
    return records, bytes.fromhex(clip.content_hash())


def write_facts(
    out: Path, number: int, rows: np.ndarray, windows: list[int], contents: list[bytes], reasons: list
) -> None:
    """Write the result for each clip of a shard; `read_facts` reads it.

    Parameters
    ----------
    out, number
        Folder of the set, and number of the shard.
    rows
        Line number of each clip, shape (clips,).
    windows
        Number of windows of each clip; 0 if it is unusable.
    contents
        Hash of each clip's audio, 16 bytes; empty if it is unusable.
    reasons
        Reason why each clip is unusable, or None.
    """
    import pyarrow as pa
    from pyarrow import parquet

    types = {"row": pa.int64(), "windows": pa.int32(), "content": pa.binary(), "reason": pa.string()}
    table = pa.table([rows, windows, contents, reasons], pa.schema(list(types.items())))
    with atomic_path(shard_path(out, number, ".parquet")) as temporary:
        parquet.write_table(table, temporary, write_page_checksum=True)


def read_facts(out: Path, number: int) -> dict[str, np.ndarray] | None:
    """The facts of a shard: row, windows, content hash (16 bytes) and reason per clip; None if unreadable."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(shard_path(out, number, ".parquet"), page_checksum_verification=True)
        return {name: table.column(name).to_numpy() for name in ("row", "windows", "content", "reason")}
    except (pa.ArrowException, OSError, KeyError):
        return None


def _is_whole(out: Path, number: int, facts: dict[str, np.ndarray], kind: np.dtype) -> bool:
    """True if all images of a shard are there and match their checksums."""
    try:
        with shard_path(out, number).open("rb") as file:
            for _ in range(int(facts["windows"].sum())):
                (found,) = np.frombuffer(file.read(kind.itemsize), kind)
                if zlib.crc32(found["image"]) != found["crc"]:
                    return False
            return not file.read(1)
    except (OSError, ValueError):
        return False

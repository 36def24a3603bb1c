"""Plan a sharded set: its clips, their order, and the number of clips per shard.

The manifest is read once, some thousand lines at a time, and written to disk as columns.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mer.audio.decode import decode
from mer.audio.windows import window_starts
from mer.config.sections import Config
from mer.data.cache.arrays import write_array
from mer.data.cache.store import VERSION
from mer.data.clips import PLAN
from mer.data.folders import describe
from mer.data.hash_splits import NO_SPLIT, PARTS, key
from mer.data.shards.layout import crc_of, open_names, read_json, record
from mer.data.shards.manifest import Lines, read_lines
from mer.data.shards.sources import Sources
from mer.utils.errors import AudioError, DataError
from mer.utils.files import atomic_path, hash_of_file, write_atomic

__all__ = ["PLANNED", "SHARD_BYTES", "left_out_table", "make_plan"]

FORMAT = 1
PLANNED = ("clips.arrow", "order.npy", "lines.parquet")  # written before plan.json
SHARD_BYTES = 2**28
PROBES = 32  # clips that are decoded to estimate the number of clips per shard
MOST_CLASSES = 1000


def make_plan(
    manifest: Path,
    out: Path,
    config: Config,
    *,
    allowed: tuple[str, ...] = (),
    label_column: str = "label",
    song_column: str = "song",
    shard_bytes: int = SHARD_BYTES,
) -> dict[str, Any]:
    """Make the plan of a set, or read the one that `out` already has.

    Parameters
    ----------
    manifest, out, config, allowed, label_column, song_column, shard_bytes
        See `mer.data.shards.make.make`.

    Returns
    -------
    dict
        Content of plan.json.

    Raises
    ------
    DataError
        If `out` holds other files or another plan, or the manifest cannot be used.
    """
    sources = Sources.of(manifest.parent, allowed)
    request = {
        "format": FORMAT,
        "features": VERSION,
        "manifest": _file_hash(manifest),
        "root": str(manifest.parent.absolute()),
        "allowed": list(sources.allowed),
        "label_column": label_column,
        "song_column": song_column,
        "shard_bytes": shard_bytes,
        "audio": config.audio.to_key(),
        "mel": config.mel.to_key(),
    }
    if (out / PLAN).is_file():
        return _same_plan(out, request)
    if any(_other_files(out)):
        raise DataError(f"{out} exists and holds other files; choose another --shards")
    lines = read_lines(manifest, sources, label_column=label_column, song_column=song_column)
    counted = _write_lines(out, lines)
    order = _order(out, manifest)
    plan = request | describe(manifest.parent) | counted
    plan |= {"clips": len(order), "per_shard": _per_shard(out, order, sources, config, shard_bytes)}
    write_atomic(out / PLAN, json.dumps(plan))
    return plan


def _same_plan(out: Path, request: dict[str, Any]) -> dict[str, Any]:
    """The plan that `out` has. Raises DataError if it is of another manifest or other settings."""
    plan = read_json(out / PLAN)
    changed = [name for name, value in request.items() if plan.get(name) != value]
    if changed:
        raise DataError(
            f"{out} holds the shards of another manifest or other settings ({', '.join(changed)}); "
            "choose another --shards, or remove it first"
        )
    return plan


def _other_files(out: Path) -> Iterator[Path]:
    """Files in the folder that were not left by an unfinished plan."""
    return (path for path in out.glob("*") if path.name not in PLANNED and not path.name.startswith("."))


def _file_hash(path: Path) -> str:
    try:
        return hash_of_file(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; check the path") from error


def _write_lines(out: Path, batches: Iterator[Lines]) -> dict[str, Any]:
    """Write the columns of a manifest to disk, and the lines that name no usable clip to another file."""
    import pyarrow as pa

    schema = pa.schema(
        [
            ("name", pa.string()), ("label", pa.int16()), ("song", pa.string()), ("part", pa.int8()),
            ("clip", pa.uint64()), ("group", pa.uint64()),
        ]
    )  # fmt: skip
    labels: dict[str, int] = {}
    numbers = {None: NO_SPLIT} | {name: number for number, name in enumerate(PARTS)}
    with (
        atomic_path(out / "clips.arrow") as columns,
        left_out_table(out / "lines.parquet") as leave_out,
        pa.OSFile(str(columns), "wb") as file,
        pa.ipc.new_file(file, schema) as writer,
    ):
        for lines in batches:
            codes = [labels.setdefault(label, len(labels)) for label in lines.labels]
            if len(labels) > MOST_CLASSES:
                raise DataError(
                    f"more than {MOST_CLASSES} different labels, such as {lines.labels[-1]!r}; "
                    "name the column that holds the classes with --label-column"
                )
            clips = [key("clip", name) for name in lines.names]
            songs = zip(lines.songs, clips, strict=True)
            groups = [key("song", song) if song else clip for song, clip in songs]
            parts = [numbers[split] for split in lines.splits]
            arrays = [lines.names, codes, lines.songs, parts, clips, groups]
            typed = [pa.array(array, field.type) for array, field in zip(arrays, schema, strict=True)]
            writer.write_batch(pa.record_batch(typed, schema))
            leave_out(lines.left_out)
    if len(labels) < 2:
        found = ", ".join(labels) or "none"
        raise DataError(f"{len(labels)} class in the manifest ({found}); at least 2 are needed to train")
    return {"labels": list(labels), "crc": crc_of(out / "clips.arrow")}


@contextmanager
def left_out_table(path: Path) -> Iterator[Callable[[list[tuple[str, str]]], None]]:
    """Write a table of files left out. Yields a function that appends a list of (file, reason)."""
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema([("file", pa.string()), ("reason", pa.string())])
    with (
        atomic_path(path) as temporary,
        parquet.ParquetWriter(temporary, schema, write_page_checksum=True) as writer,
    ):
        yield lambda rows: writer.write_table(pa.table(list(zip(*rows, strict=True)) or [[], []], schema))


def _order(out: Path, manifest: Path) -> np.ndarray:
    """Line numbers by the hash of their names, each name once. Raises DataError if one has two labels."""
    table = open_names(out)
    keys, labels = (table.column(name).to_numpy() for name in ("clip", "label"))
    order = np.lexsort((np.arange(len(keys)), keys))
    again = np.flatnonzero(keys[order][1:] == keys[order][:-1]) + 1
    for place in again:
        one, other = int(order[place - 1]), int(order[place])
        if labels[one] != labels[other]:
            raise DataError(
                f"{manifest}: {table['name'][other].as_py()!r} has two labels; keep one of the lines"
            )
    order = np.delete(order, again)
    if not len(order):
        raise DataError(f"{manifest}: no usable line; paths are relative to {manifest.parent}")
    write_array(out / "order.npy", order)
    return order


def _per_shard(out: Path, order: np.ndarray, sources: Sources, config: Config, shard_bytes: int) -> int:
    """Clips per shard of about `shard_bytes`, estimated from the lengths of the first few clips."""
    names, counts = open_names(out).column("name"), []
    for row in order[:PROBES]:
        try:
            clip = decode(sources.read(names[int(row)].as_py()), name="")
        except AudioError:
            continue
        counts.append(len(window_starts(round(clip.seconds * config.audio.sample_rate), config.audio)))
    windows = np.mean(counts) if counts else 1.0
    return max(1, round(shard_bytes / (windows * record(config.input_shape).itemsize)))

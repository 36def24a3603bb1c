"""Make a sharded set from a Parquet manifest: the plan, then the shards, then the index."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from mer.config.sections import Config
from mer.data.cache.arrays import write_array
from mer.data.clips import PLAN, class_order, require_trainable
from mer.data.shards.fill import Filled, fill, read_facts, shards_of
from mer.data.shards.layout import INDEX, crc_of, damaged, open_names, shard_path
from mer.data.shards.plan import PLANNED, SHARD_BYTES, left_out_table, make_plan
from mer.utils.errors import DataError
from mer.utils.files import leftovers, write_atomic, writing
from mer.utils.parallel import Progress, process_map

__all__ = ["Made", "Spread", "make"]

LOCK = ".lock"
PIECE = 2**14  # rows of a table per write
# Runs a function for each shard number, and returns the results in order; see `make`.
Spread = Callable[[Callable[[int], Filled], range, Progress | None], list[Filled]]


@dataclass(frozen=True, slots=True)
class Made:
    """Summary of a sharded set.

    `hash` and `sound` are computed like `content_hash` and `sound_hash` of `mer.data.check.Report`. `bytes`
    is the size of all images. `left_out` does not count duplicates.
    """

    classes: tuple[str, ...]
    clips: int
    windows: int
    songs: int
    songs_known: bool
    left_out: int
    duplicates: int
    shards: int
    bytes: int
    hash: str
    sound: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def make(
    manifest: Path,
    out: Path,
    config: Config,
    *,
    allowed: tuple[str, ...] = (),
    label_column: str = "label",
    song_column: str = "song",
    shard_bytes: int = SHARD_BYTES,
    spread: Spread | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Made:
    """Make a sharded set, or complete one that was begun. After an error, finished shards are kept.

    Parameters
    ----------
    manifest
        A Parquet file; see `mer.data.shards.manifest`.
    out
        The folder of the set.
    config
        Settings of the features.
    allowed
        URL prefixes. The manifest may name URLs that begin with one of them.
    label_column, song_column
        Names of columns.
    shard_bytes
        Approximate size of a shard in bytes.
    spread
        Called as `spread(function, numbers, progress)` to run the function for each shard number, for example
        on a cluster. Default: worker processes on this machine.
    workers
        Number of processes. Default: one per core.
    progress
        Called as `progress(done, total)`, with shards.

    Raises
    ------
    DataError
        If the manifest cannot be used, or another process is preparing `out`.
    StorageError
        If `out` cannot be written.
    """
    with _alone(out):
        plan = make_plan(
            manifest, out, config, allowed=allowed, label_column=label_column, song_column=song_column,
            shard_bytes=shard_bytes,
        )  # fmt: skip
        if crc_of(out / "clips.arrow") != plan["crc"]:
            raise DataError(f"{out / 'clips.arrow'} is damaged; prepare the set again in a new folder")
        _remove_unfinished(out)
        (out / "set.json").unlink(missing_ok=True)  # the set is unfinished while shards may be made again
        here = partial(process_map, workers=workers, few=1)
        spread = spread or (lambda function, numbers, progress: here(function, numbers, progress=progress))
        filled = spread(partial(fill, out), shards_of(plan), progress)
        made = write_index(out, plan, sum(shard.size for shard in filled))
        write_atomic(out / "set.json", json.dumps(made.to_dict()))
    return made


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the lock of a set. If no plan was made, remove the lock file and an empty folder again."""
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise DataError(f"another process is preparing {out}; wait for it, or stop it") from error
    try:
        yield
    finally:
        lock.release()
        if not (out / PLAN).exists():
            (out / LOCK).unlink(missing_ok=True)
            with suppress(OSError):  # the folder is not empty
                out.rmdir()


def _remove_unfinished(out: Path) -> None:
    """Remove unfinished files of processes that were killed."""
    names = (PLAN, *PLANNED, "index.npy", "set.json", "left_out.parquet")
    for path in (
        *(path for name in names for path in leftovers(out / name)),
        *(out / "shards").glob(".*.*.*"),
    ):
        path.unlink(missing_ok=True)


def write_index(out: Path, plan: dict[str, Any], size: int) -> Made:
    """Write the index and the table of files that were left out.

    Parameters
    ----------
    out
        The folder of the set, with all shards.
    plan
        Its plan.
    size
        Size of all images in bytes, for the summary.

    Raises
    ------
    DataError
        If the facts of a shard are damaged, or too few clips are usable.
    """
    facts = _usable_clips(out, plan)
    index = _index_of(out, facts)
    kept, dropped, alike = _without_duplicates(facts["content"], index["label"], index["row"])
    left_out = _write_left_out(out, plan, index, dropped, alike)
    index, content = index[kept], facts["content"][kept]
    classes = _renumber(index["label"], plan["labels"])
    counts = np.bincount(index["label"], minlength=len(classes))
    require_trainable(out, dict(zip(classes, counts.tolist(), strict=True)))
    write_array(out / "index.npy", index)
    return Made(
        classes=classes,
        clips=len(index),
        windows=int(index["windows"].sum()),
        songs=len(np.unique(index["group"])),
        songs_known=bool((index["group"] != index["clip"]).all()),
        left_out=left_out,
        duplicates=len(dropped),
        shards=len(shards_of(plan)),
        bytes=size,
        hash=_content_hash(content, index["label"], classes),
        sound=_hash(map(_hex, np.sort(content))),
    )


def _index_of(out: Path, facts: np.ndarray) -> np.ndarray:
    """The index of all clips that have windows; labels are still numbered as in the plan."""
    index, names = np.zeros(len(facts), INDEX), open_names(out)
    for name in ("row", "shard", "first", "windows"):
        index[name] = facts[name]
    for name in ("label", "part", "clip", "group"):
        index[name] = names.column(name).to_numpy()[facts["row"]]
    return index


def _renumber(codes: np.ndarray, labels: list[str]) -> tuple[str, ...]:
    """Renumber labels in place by the order of the classes that occur; returns these classes."""
    found = [labels[code] for code in np.unique(codes)]
    classes = class_order(set(found))
    codes[:] = np.array([classes.index(name) if name in found else -1 for name in labels])[codes]
    return classes


def _usable_clips(out: Path, plan: dict[str, Any]) -> np.ndarray:
    """The facts of all clips that have windows: row, shard, first window in the shard, windows, content."""
    kind = np.dtype(
        [*((name, INDEX[name]) for name in ("row", "shard", "first", "windows")), ("content", "S16")]
    )
    found = np.empty(plan["clips"], kind)
    count = 0
    for number in shards_of(plan):
        facts = read_facts(out, number)
        if facts is None:
            raise damaged(shard_path(out, number, ".parquet"), "it cannot be read")
        usable = facts["windows"] > 0
        part = found[count : count + int(usable.sum())]
        part["row"], part["windows"] = facts["row"][usable], facts["windows"][usable]
        part["first"] = (np.cumsum(facts["windows"]) - facts["windows"])[usable]
        part["shard"], part["content"] = number, facts["content"][usable].astype("S16")
        count += len(part)
    return found[:count]


def _without_duplicates(
    content: np.ndarray, label: np.ndarray, row: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Remove duplicates: of clips with equal audio keep the earliest line, or none if their labels differ.

    Returns a mask of the clips to keep, bool (clips,); the indices of dropped clips; and for each of these
    the index of another clip with the same audio.
    """
    order = np.lexsort((row, content))
    new = np.append(True, content[order][1:] != content[order][:-1])
    number = np.cumsum(new) - 1  # of the group of clips with equal audio
    first = order[new][number]
    conflicting = np.bincount(number, label[order] != label[first]) > 0
    drop = ~new | conflicting[number]
    kept = np.ones(len(content), bool)
    kept[order[drop]] = False
    last = order[np.append(new[1:], True)][number]
    return kept, order[drop], np.where(new, last, first)[drop]


def _write_left_out(
    out: Path, plan: dict[str, Any], index: np.ndarray, dropped: np.ndarray, alike: np.ndarray
) -> int:
    """Write the table of files left out; returns how many there are, not counting duplicates."""
    from pyarrow import parquet

    names, count = open_names(out).column("name"), 0

    def named(rows: np.ndarray) -> list[str]:
        return names.take(rows).to_pylist()

    with left_out_table(out / "left_out.parquet") as write:
        with parquet.ParquetFile(out / "lines.parquet") as lines:
            for batch in lines.iter_batches():
                rows = [(row["file"], row["reason"]) for row in batch.to_pylist()]
                count += len(rows)
                write(rows)
        for number in shards_of(plan):
            facts = read_facts(out, number)
            bad = facts["windows"] == 0
            rows = list(zip(named(facts["row"][bad]), facts["reason"][bad].tolist(), strict=True))
            count += len(rows)
            write(rows)
        for some in np.array_split(np.arange(len(dropped)), len(dropped) // PIECE + 1):
            one, other = index[dropped[some]], index[alike[some]]
            same = (one["label"] == other["label"]).tolist()
            pairs = zip(named(one["row"]), named(other["row"]), same, strict=True)
            write([(a, f"the same audio as {b}" + ("" if s else ", of another class")) for a, b, s in pairs])
    return count


def _content_hash(content: np.ndarray, label: np.ndarray, classes: tuple[str, ...]) -> str:
    """Hash of all audio and labels, as `Report.content_hash`."""
    order = np.argsort(content)
    names = (classes[number] for number in label[order])
    return _hash(f"{_hex(value)} {name}" for value, name in zip(content[order], names, strict=True))


def _hash(lines: Iterable[str]) -> str:
    """Hash of lines joined by line feeds."""
    found = blake2b(digest_size=8)
    for number, line in enumerate(lines):
        found.update(f"\n{line}".encode() if number else line.encode())
    return found.hexdigest()


def _hex(content: bytes) -> str:
    return content.ljust(16, b"\0").hex()  # numpy strips trailing zero bytes

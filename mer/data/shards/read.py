"""Read a sharded set: its index, and the images of any windows."""

import os
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mer.config.sections import AudioConfig, MelConfig
from mer.data.cache.arrays import is_whole
from mer.data.cache.store import VERSION
from mer.data.clips import PLAN
from mer.data.shards.layout import INDEX, crc_of, damaged, open_names, read_json, record, shard_path
from mer.data.windows import Windows
from mer.utils.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ShardSet", "ShardWindows", "blockwise"]

BLOCK = 4  # shards that are read together while training


class ShardWindows(Windows):
    """Windows of clips in shards. Images are read when needed and not kept in memory."""

    def __init__(
        self, root: Path, clips: np.ndarray, *, classes: int, shape: tuple[int, int], mark: str
    ) -> None:
        super().__init__(clips["windows"], clips["label"], classes=classes)
        self.root, self.record, self.mark = root, record(shape), mark
        self.shard, self.first = clips["shard"].copy(), clips["first"].copy()
        self._recent: deque[int] = deque(maxlen=2 * BLOCK)

    def images(self, indices: np.ndarray) -> np.ndarray:
        """Images of some windows, (len(indices), rows, columns). Raises DataError on damage."""
        image = self.record["image"]
        found = np.empty((len(indices), *image.shape), image.base)
        for shard, wanted, rows in self.places(indices):
            found[wanted] = self._read(shard, rows)
        return found

    def places(self, indices: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """For each shard: its number, where in `indices` its windows are, and their rows in it, ascending."""
        clips = self.clip[indices]
        shards, rows = self.shard[clips], self.first[clips] + indices - self.starts[clips]
        for shard in np.unique(shards):
            wanted = np.flatnonzero(shards == shard)
            wanted = wanted[np.argsort(rows[wanted])]
            yield int(shard), wanted, rows[wanted]

    def whole(self, shard: int) -> "ShardWindows":
        """All windows of a shard, including those of other clips, as if they were one clip."""
        clip = np.zeros(1, INDEX)
        path = shard_path(self.root, shard)
        try:
            clip["shard"], clip["windows"] = shard, path.stat().st_size // self.record.itemsize
        except OSError as error:
            raise damaged(path, str(error)) from error
        shape = self.record["image"].shape
        return ShardWindows(self.root, clip, classes=self.classes, shape=shape, mark=self.mark)

    def name(self, shard: int) -> str:
        """The name under which the store keeps embeddings of a shard."""
        return blake2b(f"{self.mark} {shard}".encode(), digest_size=20).hexdigest()

    def _read(self, shard: int, rows: np.ndarray) -> np.ndarray:
        """Images of windows of one shard, which is mapped only while they are copied."""
        path = shard_path(self.root, shard)
        try:
            if shard not in self._recent:
                self._recent.append(shard)
                self._read_ahead(path, int(self.counts[self.shard == shard].sum()))
            records = np.memmap(path, self.record, "r")[rows]
        except (OSError, ValueError, IndexError) as error:
            raise damaged(path, str(error)) from error
        for image, crc in zip(records["image"], records["crc"], strict=True):
            if zlib.crc32(image) != crc:
                raise damaged(path, "a checksum is wrong")
        return records["image"]

    def _read_ahead(self, path: Path, windows: int) -> None:
        """Ask the kernel to read a whole shard ahead, if more than half of it will be used."""
        if hasattr(os, "posix_fadvise") and 2 * windows * self.record.itemsize > path.stat().st_size:
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)

    def order(self) -> torch.Tensor:
        """All windows in random order, block by block; see `blockwise`."""
        return blockwise(self.shard[self.clip])

    def clip_order(self) -> torch.Tensor:
        """All clips in random order, block by block; see `blockwise`."""
        return blockwise(self.shard)


def blockwise(shards: np.ndarray) -> torch.Tensor:
    """A random order of units (windows or clips) that needs only BLOCK shards at a time.

    The shards are shuffled and divided into blocks of BLOCK shards, then the units of each block are
    shuffled, so the disk is read in large pieces. This is less random than a shuffle of all units: those of
    one block are seen in the same part of an epoch, as with the shuffle buffers of tf.data and WebDataset.
    With up to BLOCK shards, all units are shuffled.

    Parameters
    ----------
    shards
        Number of each unit's shard, ascending, shape (units,).

    Returns
    -------
    torch.Tensor
        A permutation of the units, int64 (units,).
    """
    numbers, starts = np.unique(shards, return_index=True)
    if len(numbers) <= BLOCK:
        return torch.randperm(len(shards))
    ends = [*starts[1:], len(shards)]
    found = []
    for block in torch.randperm(len(numbers)).split(BLOCK):
        units = torch.cat([torch.arange(starts[i], ends[i]) for i in block.tolist()])
        found.append(units[torch.randperm(len(units))])
    return torch.cat(found)


def _open_index(root: Path) -> np.ndarray:
    """Map the index. Raises DataError if it is damaged."""
    path = root / "index.npy"
    if not is_whole(path):
        raise damaged(path, "its checksum is wrong")
    index = np.load(path, mmap_mode="r", allow_pickle=False)
    if index.dtype != INDEX or index.ndim != 1:
        raise damaged(path, "it is not an index")
    return index


@dataclass(frozen=True)
class ShardSet:
    """A complete sharded set."""

    root: Path
    plan: dict[str, Any]
    summary: dict[str, Any]
    index: np.ndarray

    @classmethod
    def open(cls, root: Path) -> "ShardSet":
        """Open a set. Raises DataError if it is incomplete, damaged, or of another version of mer."""
        plan = read_json(root / PLAN)
        if plan.get("features") != VERSION:
            raise DataError(f"{root} was made by another version of mer; prepare it again in a new folder")
        if not (root / "set.json").is_file():
            raise DataError(f"{root} is not finished; continue with the same mer prepare --shards {root}")
        found = cls(root, plan, read_json(root / "set.json"), _open_index(root))
        found._require_whole()
        return found

    def _require_whole(self) -> None:
        """Raise DataError unless the files are valid and belong together. The set may come from elsewhere."""
        names, index = self.root / "clips.arrow", self.index
        if crc_of(names) != self.plan.get("crc"):
            raise DataError(f"{names} is damaged; prepare the set again in a new folder")
        open_names(self.root, full=True)
        if len(index) != self.summary.get("clips") or not len(index):
            raise damaged(self.root / "index.npy", "it belongs to another set")
        limits = {"row": len(self._names), "label": len(self.classes), "shard": 2**31, "first": 2**31}
        for name, limit in limits.items():
            if index[name].min() < 0 or index[name].max() >= limit:
                raise damaged(self.root / "index.npy", f"{name} out of range")
        if index["windows"].min() < 1:
            raise damaged(self.root / "index.npy", "clips without windows")

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the order of the network's outputs."""
        return tuple(self.summary["classes"])

    @property
    def audio(self) -> AudioConfig:
        """Settings from audio file to windows."""
        return AudioConfig.from_key(self.plan["audio"])

    @property
    def mel(self) -> MelConfig:
        """Settings from window to image."""
        return MelConfig.from_key(self.plan["mel"])

    @cached_property
    def _names(self) -> "pa.Table":
        return open_names(self.root)

    def column(self, name: str, clips: Sequence[int] | np.ndarray) -> list[Any]:
        """A column of the manifest for some clips: "name", or "song" (None if unknown)."""
        return self._names.column(name).take(self.index["row"][np.asarray(clips, np.int64)]).to_pylist()

    def windows(self, clips: Sequence[int] | np.ndarray) -> ShardWindows:
        """The windows of some clips, given by ascending numbers."""
        chosen = self.index[np.asarray(clips, np.int64)]
        mark = " ".join(
            str(value) for value in (self.summary["sound"], self.plan["manifest"], self.plan["per_shard"])
        )
        shape = self.mel.image_shape(self.audio)
        return ShardWindows(self.root, chosen, classes=len(self.classes), shape=shape, mark=mark)

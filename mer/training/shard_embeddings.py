"""Embeddings of a sharded set, in the store as one file per shard, and read row by row.

Memory does not grow with the number of clips. All windows of a shard are embedded together, including those
of other parts (validation, test), so that they need not be computed later. The body is frozen, so it learns
nothing from them.
"""

from dataclasses import dataclass

import numpy as np
import torch

from mer.data.cache.arrays import ArrayFile, Shelf, is_whole, write_array
from mer.data.shards.read import ShardWindows
from mer.training.embeddings import KeptEmbeddings, Network, embed
from mer.training.feed import Feed
from mer.utils.parallel import Progress, part_progress

__all__ = ["ShardEmbeddings"]


@dataclass(frozen=True, slots=True)
class _Kept:
    """Embeddings of windows, read from disk; see `mer.training.feed.OnDisk`."""

    windows: ShardWindows
    shelf: Shelf
    device = torch.device("cpu")

    def __getitem__(self, indices: torch.Tensor) -> torch.Tensor:
        """Embeddings of some windows, float32 (len(indices), ...)."""
        found = None
        for shard, wanted, rows in self.windows.places(indices.numpy()):
            part = ArrayFile.open(self.shelf.path(self.windows.name(shard)))[rows]
            if found is None:
                found = np.empty((len(indices), *part.shape[1:]), np.float32)
            found[wanted] = part
        return torch.from_numpy(found)


class ShardEmbeddings(KeptEmbeddings):
    """Embeddings for windows in shards; those that are not in the store are added shard by shard."""

    def __call__(self, model: Network, feed: Feed, progress: Progress) -> _Kept:
        """Embeddings of all windows, read from disk when indexed."""
        windows = feed.windows
        shards = np.unique(windows.shard).tolist()
        if missing := self._missing(windows, shards):
            sizes = {shard: len(windows.whole(shard)) for shard in shards}
            total, done = sum(sizes.values()), sum(sizes[shard] for shard in {*shards} - {*missing})
            with self.store.alone(self.lock, lambda: progress(done, total)):
                for shard in self._missing(windows, missing):
                    self._compute(model, feed, shard, part_progress(progress, done, total))
                    done += sizes[shard]
        self.shelf.mark_used()
        return _Kept(windows, self.shelf)

    def _missing(self, windows: ShardWindows, shards: list[int]) -> list[int]:
        """Shards whose entry is missing or damaged."""
        return [shard for shard in shards if not is_whole(self.shelf.path(windows.name(shard)))]

    def _compute(self, model: Network, feed: Feed, shard: int, progress: Progress) -> None:
        """Compute and store the embeddings of a shard."""
        whole = Feed(feed.windows.whole(shard), feed.transform, feed.device)
        found = embed(model, whole, progress).cpu().numpy()
        write_array(self.shelf.path(feed.windows.name(shard)), found)

"""What a frozen body makes of a sharded set: kept in the store, a file for each shard, and read row by row.

So memory does not grow with the clips. A shard is worked out whole, with the windows of other parts, which
then find theirs; nothing is learned from them.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from mer.data.cache.arrays import ArrayFile, Shelf, is_whole, write_array
from mer.data.shards.read import ShardWindows
from mer.models.zoo import Classifier
from mer.training.embeddings import KeptEmbeddings, embed
from mer.training.feed import Feed
from mer.utils.parallel import Progress

__all__ = ["ShardEmbeddings"]


@dataclass(frozen=True, slots=True)
class _Kept:
    """Embeddings of windows, looked up on disk; see `mer.training.feed.OnDisk`."""

    windows: ShardWindows
    shelf: Shelf
    device = torch.device("cpu")

    def __getitem__(self, indices: torch.Tensor) -> torch.Tensor:
        """Rows of some windows, float32 (len(indices), ...)."""
        found = None
        for shard, wanted, rows in self.windows.places(indices.numpy()):
            part = ArrayFile.open(self.shelf.path(self.windows.name(shard)))[rows]
            if found is None:
                found = np.empty((len(indices), *part.shape[1:]), np.float32)
            found[wanted] = part
        return torch.from_numpy(found)


def _further(progress: Progress, before: int, total: int, done: int, _: int) -> None:
    """Tell of a part as of the whole."""
    progress(before + done, total)


class ShardEmbeddings(KeptEmbeddings):
    """`embed` for windows in shards: what is not in the store is added shard by shard."""

    def __call__(self, model: Classifier, feed: Feed, progress: Progress) -> _Kept:
        """Embeddings of all windows, to be looked up."""
        windows = feed.windows
        shards = np.unique(windows.shard).tolist()
        if missing := self._missing(windows, shards):
            sizes = {shard: len(windows.whole(shard)) for shard in shards}
            total, done = sum(sizes.values()), sum(sizes[shard] for shard in {*shards} - {*missing})
            with self.store.alone(self.lock, lambda: progress(done, total)):
                for shard in self._missing(windows, missing):
                    self._compute(model, feed, shard, partial(_further, progress, done, total))
                    done += sizes[shard]
        self.shelf.mark_used()
        return _Kept(windows, self.shelf)

    def _missing(self, windows: ShardWindows, shards: list[int]) -> list[int]:
        """Shards of which nothing whole is kept."""
        return [shard for shard in shards if not is_whole(self.shelf.path(windows.name(shard)))]

    def _compute(self, model: Classifier, feed: Feed, shard: int, progress: Progress) -> None:
        """Keep the embeddings of a shard."""
        whole = Feed(feed.windows.whole(shard), feed.transform, feed.device)
        found = embed(model, whole, progress).cpu().numpy()
        write_array(self.shelf.path(feed.windows.name(shard)), found)

"""Log-mel windows of several clips, readable in any order."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from mer.data.cache.arrays import ArrayFile

__all__ = ["WindowSet", "Windows", "pool", "window_weights"]

IN_MEMORY = 2**29  # bytes: if the images are larger, they are read when needed


def pool(rows: np.ndarray, scores: np.ndarray | None = None, clips: np.ndarray | None = None) -> np.ndarray:
    """Weighted mean over the windows of each clip.

    Parameters
    ----------
    rows
        One row per window, such as its probabilities; shape (windows, columns).
    scores
        Score of each window, shape (windows,). Weights are their softmax over a clip. Default: equal weights.
    clips
        Index of each window's clip, from 0, shape (windows,). Default: all windows are of one clip.

    Returns
    -------
    np.ndarray
        float64 of shape (clips, columns).
    """
    clips = np.zeros(len(rows), int) if clips is None else clips
    weights = window_weights(np.zeros(len(rows)) if scores is None else scores, clips)
    total = np.zeros((int(clips.max()) + 1, rows.shape[1]))
    np.add.at(total, clips, rows * weights[:, None])
    return total


def window_weights(scores: np.ndarray, clips: np.ndarray) -> np.ndarray:
    """Softmax of the `scores` (windows,) over each clip, (windows,). For `clips` see `pool`."""
    top = np.full(int(clips.max()) + 1, -np.inf)
    np.maximum.at(top, clips, scores)
    weights = np.exp(scores - top[clips])
    return weights / np.bincount(clips, weights)[clips]


class Windows:
    """Base class for the windows of several clips, however their images are stored.

    Parameters
    ----------
    counts
        Number of windows of each clip, shape (clips,).
    labels
        Class index of each clip, shape (clips,). Its windows have the same label.
    classes
        Number of classes.
    hashes
        Hash of each clip's file. The store keeps embeddings under it.
    votes
        Shares of the votes, shape (clips, classes). Training uses them instead of the labels.
    """

    gathered: np.ndarray | None = None  # all images, if they are in memory

    def __init__(
        self,
        counts: Sequence[int] | np.ndarray,
        labels: Sequence[int] | np.ndarray,
        *,
        classes: int,
        hashes: Sequence[str] | None = None,
        votes: Sequence[Sequence[float]] | None = None,
    ) -> None:
        self.labels = np.asarray(labels, dtype=np.int64)
        self.classes, self.hashes = classes, hashes
        shares = np.eye(classes, dtype=np.float32)[self.labels] if votes is None else votes
        self.targets = np.asarray(shares, np.float32)  # (clips, classes): the distribution to learn
        self.counts = np.asarray(counts, dtype=np.int64)
        self.starts = np.cumsum(self.counts) - self.counts
        self.clip = np.repeat(np.arange(len(self.counts)), self.counts)

    def __len__(self) -> int:
        return len(self.clip)

    @property
    def window_labels(self) -> np.ndarray:
        """Class index of each window, int64 of shape (windows,)."""
        return self.labels[self.clip]

    def images(self, indices: np.ndarray) -> np.ndarray:
        """Images of the windows with these `indices`, float16 of shape (len(indices), size, size)."""
        raise NotImplementedError

    def order(self) -> torch.Tensor:
        """All window indices in the order of an epoch, drawn from torch's global generator."""
        return torch.randperm(len(self))

    def clip_order(self) -> torch.Tensor:
        """All clip indices in the order of an epoch, drawn from torch's global generator."""
        return torch.randperm(len(self.counts))

    def batches(self, size: int = 256) -> Iterator[np.ndarray]:
        """Images of all windows in order, in batches of `size`."""
        for start in range(0, len(self), size):
            yield self.images(np.arange(start, min(start + size, len(self))))

    def of_clips(self, clips: np.ndarray) -> np.ndarray:
        """Indices of all windows of these clips, clip by clip."""
        return np.concatenate([np.arange(self.starts[c], self.starts[c] + self.counts[c]) for c in clips])

    def pool(self, rows: np.ndarray, scores: np.ndarray | None = None) -> np.ndarray:
        """Reduce rows of windows (windows, columns) to rows of clips (clips, columns); see `pool`."""
        return pool(rows, scores, self.clip)

    def hits(self, probabilities: np.ndarray) -> np.ndarray:
        """Correct windows and all windows of each clip, int64 (clips, 2), from (windows, classes)."""
        right = probabilities.argmax(axis=1) == self.window_labels
        return np.stack([np.bincount(self.clip[right], minlength=len(self.counts)), self.counts], axis=1)


class WindowSet(Windows):
    """Windows of clips whose images are stored clip by clip.

    Parameters
    ----------
    arrays
        float16 images of each clip, shape (windows, size, size), in memory or in a file.
    labels, classes, hashes, votes
        See `Windows`.
    """

    def __init__(
        self,
        arrays: Sequence[np.ndarray | ArrayFile],
        labels: Sequence[int],
        *,
        classes: int,
        hashes: Sequence[str] | None = None,
        votes: Sequence[Sequence[float]] | None = None,
    ) -> None:
        counts = [len(array) for array in arrays]
        super().__init__(counts, labels, classes=classes, hashes=hashes, votes=votes)
        self._arrays = list(arrays)
        small = sum(array.nbytes for array in arrays) <= IN_MEMORY
        self.gathered = np.concatenate([array[:] for array in arrays]) if small and arrays else None

    def images(self, indices: np.ndarray) -> np.ndarray:
        """Images of the windows with these `indices`, float16 of shape (len(indices), size, size)."""
        if self.gathered is not None:
            return self.gathered[indices]
        clips = self.clip[indices]
        places = zip(clips, indices - self.starts[clips], strict=True)
        return np.stack([self._arrays[clip][place] for clip, place in places])

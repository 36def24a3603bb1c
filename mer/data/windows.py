"""The windows of some clips, ready to be drawn from in any order."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from mer.data.cache.arrays import ArrayFile

__all__ = ["WindowSet", "Windows"]

IN_MEMORY = 2**29  # bytes of float16 images that are gathered into memory; more is read when it is needed


class Windows:
    """Windows of several clips, however their images are kept: what belongs to which clip, and what it is.

    `counts` and `labels` (clips,) are the number of windows and the class index of each clip. A window's
    label is its clip's. `hashes`, if given, are those of the clips' files, under which the store keeps what
    is worked out of them. `votes` (clips, classes), if given, are the shares of listeners' votes, which are
    trained on in place of the label.
    """

    gathered: np.ndarray | None = None  # all images, where they are in memory

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
        self.targets = np.asarray(shares, np.float32)  # (clips, classes): what to learn of each clip
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
        """Some windows, float16 of shape (len(indices), size, size)."""
        raise NotImplementedError

    def order(self) -> torch.Tensor:
        """All windows in the order of an epoch, drawn by torch's generator."""
        return torch.randperm(len(self))

    def clip_order(self) -> torch.Tensor:
        """All clips in the order of an epoch, drawn by torch's generator."""
        return torch.randperm(len(self.counts))

    def batches(self, size: int = 256) -> Iterator[np.ndarray]:
        """All windows in order, in batches."""
        for start in range(0, len(self), size):
            yield self.images(np.arange(start, min(start + size, len(self))))

    def of_clips(self, clips: np.ndarray) -> np.ndarray:
        """Numbers of all windows of some clips, one clip after the other."""
        return np.concatenate([np.arange(self.starts[c], self.starts[c] + self.counts[c]) for c in clips])

    def pool(self, probabilities: np.ndarray, scores: np.ndarray | None = None) -> np.ndarray:
        """Mean over the windows of each clip: (windows, classes) -> (clips, classes).

        With `scores` (windows,) a window counts for its share in their softmax over the clip.
        """
        if scores is None:
            scores = np.zeros(len(self))
        top = np.full(len(self.counts), -np.inf)
        np.maximum.at(top, self.clip, scores)
        shares = np.exp(scores - top[self.clip])
        shares /= np.bincount(self.clip, shares, minlength=len(self.counts))[self.clip]
        total = np.zeros((len(self.labels), probabilities.shape[1]))
        np.add.at(total, self.clip, probabilities * shares[:, None])
        return total

    def hits(self, probabilities: np.ndarray) -> np.ndarray:
        """Of each clip how many windows are answered rightly, and how many there are, int64 (clips, 2)."""
        right = probabilities.argmax(axis=1) == self.window_labels
        return np.stack([np.bincount(self.clip[right], minlength=len(self.counts)), self.counts], axis=1)


class WindowSet(Windows):
    """Images of clips that are kept each by itself.

    `arrays` holds per clip float16 images (windows, size, size), in memory or in a file; for the rest see
    `Windows`.
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
        """Some windows, float16 of shape (len(indices), size, size)."""
        if self.gathered is not None:
            return self.gathered[indices]
        clips = self.clip[indices]
        places = zip(clips, indices - self.starts[clips], strict=True)
        return np.stack([self._arrays[clip][place] for clip, place in places])

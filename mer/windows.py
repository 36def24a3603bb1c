"""The windows of some clips, ready to be drawn from in any order."""

from collections.abc import Iterator, Sequence

import numpy as np

__all__ = ["WindowSet"]

IN_MEMORY = 2**30  # bytes of float16 images that are gathered into memory; more stays memory-mapped


class WindowSet:
    """Images of several clips and the label of each clip.

    `arrays` holds per clip float16 images (windows, size, size); `labels` the class index of each clip.
    A window's label is its clip's.
    """

    def __init__(self, arrays: Sequence[np.ndarray], labels: Sequence[int], *, classes: int) -> None:
        self.labels = np.asarray(labels, dtype=np.int64)
        self.classes = classes
        counts = np.array([len(array) for array in arrays], dtype=np.int64)
        self.clip = np.repeat(np.arange(len(arrays)), counts)
        self.position = np.arange(len(self.clip)) - np.repeat(np.cumsum(counts) - counts, counts)
        self._arrays = list(arrays)
        small = sum(array.nbytes for array in arrays) <= IN_MEMORY
        self._gathered = np.concatenate(arrays) if small and arrays else None

    def __len__(self) -> int:
        return len(self.clip)

    @property
    def window_labels(self) -> np.ndarray:
        """Class index of each window, int64 of shape (windows,)."""
        return self.labels[self.clip]

    def images(self, indices: np.ndarray) -> np.ndarray:
        """Some windows, float16 of shape (len(indices), size, size)."""
        if self._gathered is not None:
            return self._gathered[indices]
        return np.stack([self._arrays[self.clip[i]][self.position[i]] for i in indices])

    def batches(self, size: int = 256) -> Iterator[np.ndarray]:
        """All windows in order, in batches."""
        for start in range(0, len(self), size):
            yield self.images(np.arange(start, min(start + size, len(self))))

    def pool(self, probabilities: np.ndarray) -> np.ndarray:
        """Mean over the windows of each clip: (windows, classes) -> (clips, classes)."""
        total = np.zeros((len(self.labels), probabilities.shape[1]))
        np.add.at(total, self.clip, probabilities)
        return total / np.bincount(self.clip, minlength=len(self.labels))[:, None]

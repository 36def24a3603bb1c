"""Batches concurrent requests into one forward pass.

On a GPU a large pass takes about as long as a small one. The first thread of a batch waits a moment for
others. While one batch is computed, the next one collects. This is adaptive batching, as in Crankshaw et al.,
"Clipper", NSDI 2017.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Lock

import numpy as np
import torch

__all__ = ["Gatherer"]

# From inputs (n, ...) to arrays with n rows each.
Look = Callable[[torch.Tensor], tuple[np.ndarray, ...]]


class Gatherer:
    """Calls `look` once for all threads that call within `patience` seconds.

    Parameters
    ----------
    look
        Function of a tensor (n, ...) that returns arrays with one row per input. Each thread gets the rows of
        its own inputs. An exception of `look` is raised in every thread of the batch.
    patience
        Seconds that the first thread of a batch waits for others.

    References
    ----------
    Crankshaw et al., "Clipper: A low-latency online prediction serving system", NSDI 2017.
    """

    def __init__(self, look: Look, patience: float) -> None:
        self.look, self.patience = look, patience
        self._waiting: list[tuple[torch.Tensor, Future]] = []
        self._lock, self._turn = Lock(), Lock()

    def __call__(self, inputs: torch.Tensor) -> tuple[np.ndarray, ...]:
        """The result of `look` for these inputs."""
        mine: Future = Future()
        with self._lock:
            self._waiting.append((inputs, mine))
            leads = len(self._waiting) == 1
        if leads:
            time.sleep(self.patience)
            with self._turn:
                with self._lock:
                    group, self._waiting = self._waiting, []
                self._answer(group)
        return mine.result()

    def _answer(self, group: Sequence[tuple[torch.Tensor, Future]]) -> None:
        """Call `look` for a batch, and give each thread its rows or the exception."""
        try:
            found = self.look(torch.cat([inputs for inputs, _ in group]))
        except Exception as error:  # noqa: BLE001 - raised again in the threads that called
            for _, future in group:
                future.set_exception(error)
            return
        start = 0
        for inputs, future in group:
            stop = start + len(inputs)
            future.set_result(tuple(rows[start:stop] for rows in found))
            start = stop

"""What several threads ask a network at once, looked at together: on a GPU one large pass costs as one small.

The first to ask waits a moment for others, and while a group is looked at the next one gathers (adaptive
batching, as in Crankshaw et al., "Clipper", NSDI 2017).
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Lock

import numpy as np
import torch

__all__ = ["Gatherer"]

Look = Callable[[torch.Tensor], tuple[np.ndarray, ...]]


class Gatherer:
    """Calls `look` once for the inputs (n, ...) of all threads that ask within `patience` seconds.

    `look` gives arrays of one row an input; each thread gets the rows of its own, or what `look` raises.
    """

    def __init__(self, look: Look, patience: float) -> None:
        self.look, self.patience = look, patience
        self._waiting: list[tuple[torch.Tensor, Future]] = []
        self._lock, self._turn = Lock(), Lock()

    def __call__(self, inputs: torch.Tensor) -> tuple[np.ndarray, ...]:
        """What `look` gives for these inputs."""
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
        try:
            found = self.look(torch.cat([inputs for inputs, _ in group]))
        except Exception as error:  # noqa: BLE001 - it is for those who asked
            for _, future in group:
                future.set_exception(error)
            return
        start = 0
        for inputs, future in group:
            stop = start + len(inputs)
            future.set_result(tuple(rows[start:stop] for rows in found))
            start = stop

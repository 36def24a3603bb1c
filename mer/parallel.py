"""One way to run a function over many items on all cores, in order, with progress."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TypeVar

import torch

__all__ = ["Progress", "cores", "process_map"]

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[int, int], None]

SMALL = 12  # starting two workers costs about as much as this many clips


def cores() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    torch.set_num_threads(1)


@contextmanager
def _one_thread() -> Iterator[None]:
    """As in a worker: torch's sums differ in the last bit with the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def process_map(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> list[Result]:
    """`[function(item) for item in items]` in worker processes of one thread each.

    `function` must be picklable; what it raises is raised here. `workers` defaults to the cores; a
    few items, or one worker, run in this process. `progress(done, total)` is called after each.
    """
    total, results = len(items), []
    workers = min(workers or cores(), total)

    def collect(outcomes: "Sequence[Result]") -> list[Result]:
        for outcome in outcomes:
            results.append(outcome)
            if progress:
                progress(len(results), total)
        return results

    if workers <= 1 or total <= SMALL:
        with _one_thread():
            return collect(map(function, items))
    chunk = max(1, min(8, total // (4 * workers)))
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start_worker)
    try:
        return collect(pool.map(function, items, chunksize=chunk))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)

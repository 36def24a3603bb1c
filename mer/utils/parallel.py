"""Runs a function over many items on all cores, in order."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.context import BaseContext
from typing import TypeVar

import torch

from mer.utils.errors import MerError
from mer.utils.machine import cores, keep_memory

__all__ = ["SMALL", "Progress", "one_thread", "part_progress", "process_map", "share_cores", "thread_map"]

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[int, int], None]

SMALL = 12  # without fork, starting two processes takes about as long as preparing this many clips


def process_map(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    few: int = SMALL,
) -> list[Result]:
    """Compute `[function(item) for item in items]` in worker processes with one thread each.

    Workers end when this process ends, also if it is killed.

    Parameters
    ----------
    function
        Picklable function of one item. Its exceptions are raised here.
    items
        The items, in order.
    workers
        Number of processes; by default `cores()`. With one, the work is done in this process.
    progress
        Called as `progress(done, total)` after each item.
    few
        Up to this many items are processed in this process.

    Raises
    ------
    MerError
        If a worker is killed.
    """
    total, results = len(items), []
    workers = min(workers or cores(), total)

    def collect(outcomes: Iterator[Result]) -> list[Result]:
        """Gather results as they arrive, and report progress after each."""
        for outcome in outcomes:
            results.append(outcome)
            if progress:
                progress(len(results), total)
        return results

    if workers <= 1 or total <= few:
        with one_thread():
            return collect(map(function, items))
    chunk = max(1, min(8, total // (4 * workers)))
    pool = ProcessPoolExecutor(
        workers, mp_context=_context(), initializer=_start_worker, initargs=(os.getpid(),)
    )
    try:
        return collect(pool.map(function, items, chunksize=chunk))
    except BrokenProcessPool as error:
        raise MerError(
            f"a worker process was killed after {len(results)} of {total} items, perhaps for lack of memory; "
            "finished items are kept; try again with --workers 1"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _context() -> BaseContext:
    """Start method of workers: fork if that is safe, since spawned workers import torch, which takes seconds.

    A fork copies only the calling thread, so it is used only by a process with one Python thread (a command,
    not a page). Threads of numerical libraries do not matter, since a worker does not use them.
    """
    alone = threading.active_count() == 1
    return get_context("fork" if sys.platform == "linux" and alone else "spawn")


def _start_worker(parent: int) -> None:
    """Set up a worker process. `parent` is the process number of the process that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    torch.set_num_threads(1)
    keep_memory()
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    """End this worker within a second of its parent, which may be killed and then cannot tell it to."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def part_progress(progress: Progress, before: int, total: int) -> Progress:
    """Make a progress function for one part of some work, which reports progress of the whole.

    Parameters
    ----------
    progress
        Called as `progress(done, total)` with the numbers of the whole.
    before, total
        Number of items in earlier parts, and in all parts.
    """
    return lambda done, _: progress(before + done, total)


def share_cores() -> None:
    """Limit torch to this run's share of the cores, since several runs may train at once.

    If runs shared cores, each would wait for its slowest thread.
    """
    torch.set_num_threads(min(torch.get_num_threads(), cores()))


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread, as workers do: the last bit of its sums depends on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def thread_map(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Compute `[function(item) for item in items]` on as many threads as torch uses, each call on one thread.

    For several independent calls this is faster than several threads for each call, since no thread waits for
    another inside a call.

    Parameters
    ----------
    function
        Function of one item, which several threads may call at once. Torch's modes, such as inference mode,
        hold for the calling thread alone, so the function sets those that it needs.
    items
        The items, in order.
    """
    count = min(torch.get_num_threads(), len(items))
    if count < 2:
        return [function(item) for item in items]
    with one_thread(), ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return list(pool.map(function, items))

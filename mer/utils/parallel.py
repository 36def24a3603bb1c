"""One way to run a function over many items on all cores, in order, with progress."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.context import BaseContext
from typing import TypeVar

import torch

from mer.utils.errors import MerError
from mer.utils.machine import cores, keep_memory

__all__ = ["SMALL", "Progress", "one_thread", "process_map", "share_cores"]

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[int, int], None]

SMALL = 12  # where processes are not forked, starting two costs about as much as this many clips


def process_map(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    few: int = SMALL,
) -> list[Result]:
    """`[function(item) for item in items]` in worker processes of one thread each.

    `function` must be picklable; what it raises is raised here. `workers` defaults to the cores; up to
    `few` items, or one worker, run in this process. `progress(done, total)` is called after each. Workers
    end when this process does, however it ends. Raises MerError if a worker is killed.
    """
    total, results = len(items), []
    workers = min(workers or cores(), total)

    def collect(outcomes: "Sequence[Result]") -> list[Result]:
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
            "what is done is kept: try again with --workers 1"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _context() -> BaseContext:
    """Forked workers begin at once; new processes must import torch first, which takes seconds.

    A fork copies only the thread that asks for it, so it is for a process whose only thread of Python that is
    (a command, not a page). The threads of numerical libraries do not matter: a worker uses none.
    """
    alone = threading.active_count() == 1
    return get_context("fork" if sys.platform == "linux" and alone else "spawn")


def _start_worker(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    torch.set_num_threads(1)
    keep_memory()
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: int) -> None:
    """End this worker soon after its parent, which may be killed without a word."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def share_cores() -> None:
    """Have this process compute with its share of the cores, where several runs are worked on at once.

    Threads of two runs on the same cores hold each other up: each waits for its slowest.
    """
    torch.set_num_threads(min(torch.get_num_threads(), cores()))


@contextmanager
def one_thread() -> Iterator[None]:
    """As in a worker: torch's sums differ in the last bit with the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""Limits on work at the same time: at most as many clips are processed at once as there are cores.

More would not finish sooner, and each holds its clip, windows and activations in memory: twenty songs of five
minutes at once took 3.5 GB.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock, Semaphore

import streamlit as st

from mer.utils.machine import cores, hand_back

__all__ = ["alone", "in_turn", "places"]


@contextmanager
def in_turn() -> Iterator[None]:
    """Wait for one of as many places as there are cores. A thread must not enter twice.

    At the end, freed memory is returned to the system, because the next visitor's thread has its own arena.
    """
    with places():
        try:
            yield
        finally:
            hand_back()


@lru_cache(maxsize=1)
def places() -> Semaphore:
    """The places for work at the same time, as many as there are cores."""
    return Semaphore(cores())


@contextmanager
def alone(what: str) -> Iterator[None]:
    """Let one visitor at a time do `what`; the others see that they wait."""
    lock = _locks().setdefault(what, Lock())
    if not lock.acquire(blocking=False):
        with st.spinner(f"{what}: waiting for another visitor …"):
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@lru_cache(maxsize=1)
def _locks() -> dict[str, Lock]:
    """A lock for each piece of work; entries are small."""
    return {}

"""Heavy work in turn: as many clips are heard at once as there are cores, however many visitors ask.

More at once would not be done sooner, and each holds its clip, its windows and what a network makes of them
in memory: twenty songs of five minutes at once took 3.5 GB.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock, Semaphore

import streamlit as st

from mer.utils.machine import cores, hand_back

__all__ = ["alone", "in_turn"]


@contextmanager
def in_turn() -> Iterator[None]:
    """Wait for one of as many places as there are cores; must not be entered twice by one thread.

    What was taken goes back to the system: the next visitor's thread has a memory of its own.
    """
    with _places():
        try:
            yield
        finally:
            hand_back()


@lru_cache(maxsize=1)
def _places() -> Semaphore:
    return Semaphore(cores())


@contextmanager
def alone(what: str) -> Iterator[None]:
    """Only one visitor at a time is here for `what`; the others are told that they wait."""
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
    """A lock for each piece of work; a few words an entry."""
    return {}

"""What this machine has, and how the runs that work on it at once share it. Nothing here imports torch."""

import os
from pathlib import Path

from mer.errors import ConfigError

__all__ = ["cores", "gpus", "slots"]


def slots() -> int:
    """How many runs this machine works on at once: MER_SLOTS, or one per GPU, or one.

    Raises ConfigError if MER_SLOTS is no whole number from 1.
    """
    wanted = os.environ.get("MER_SLOTS", "")
    if wanted:
        if not wanted.isdecimal() or int(wanted) < 1:
            raise ConfigError(f"MER_SLOTS={wanted!r} should be a whole number from 1")
        return int(wanted)
    return max(1, gpus())


def gpus() -> int:
    """Number of NVIDIA GPUs, told without importing torch."""
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))


def cores() -> int:
    """Number of processors for one run: those this process may use, divided by the slots; at least 1."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, mine // slots())

"""What this machine has, and how the runs that work on it at once share it. Nothing here imports torch."""

import ctypes
import os
import sys
from pathlib import Path

from mer.utils.errors import ConfigError

__all__ = ["cores", "gpus", "hand_back", "keep_memory", "processors", "slots", "wait_asleep", "wait_briefly"]

# Parameters of glibc's malloc (mallopt(3)) and what they are set to, bytes.
ALLOCATOR = {-1: 2**30, -3: 2**28}  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD


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


def processors() -> list[int]:
    """Those that this process may use, by number."""
    mine = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return sorted(mine)


def cores() -> int:
    """Number of processors for one run: those this process may use, divided by the slots; at least 1."""
    return max(1, len(processors()) // slots())


def keep_memory() -> bool:
    """Have freed memory kept for what comes next; true if this C library can.

    glibc hands large blocks back to the kernel and gets them anew, page by page, for the next layer or clip.
    Measured on two cores: without that EfficientNet-B0 does 100 windows a second by 32 instead of 60, and a
    clip (10 s, 44.1 kHz stereo) takes 12 ms to prepare instead of 13 to 20. Blocks over 256 MiB are still
    handed back.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and all(mallopt(name, value) for name, value in ALLOCATOR.items())


def hand_back() -> None:
    """Give freed memory back to the system, where `keep_memory` had it kept and this C library can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim:
        trim(0)


def wait_asleep() -> None:
    """Have threads that share an operation sleep while they wait for one another, also in child processes.

    To be called before torch is imported. They would spin for milliseconds otherwise, each time, which on
    cores that others use too is time taken from the thread that is waited for. A training step of
    MobileNetV3-Small (16 windows, two cores) with two busy neighbours: 0.7 s, else 2.8 s. On idle cores to
    wake up has its price: 0.44 s instead of 0.35 s. OMP_WAIT_POLICY, where it is set, is left as it is.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def wait_briefly() -> None:
    """Have threads spin for some ten microseconds, then sleep: for what may have the cores alone.

    That step takes 1.1 s with the busy neighbours and 0.37 s without. Of GNU's OpenMP, which torch has on
    Linux; where OMP_WAIT_POLICY is set, as the dashboard does for its runs, nothing changes.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")

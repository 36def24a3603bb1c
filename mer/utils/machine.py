"""Processors, GPUs and memory of this machine, and how concurrent runs share them. Imports no torch."""

import ctypes
import os
import sys
from pathlib import Path

from mer.utils.errors import ConfigError

__all__ = ["cores", "gpus", "hand_back", "keep_memory", "processors", "slots", "wait_asleep", "wait_briefly"]

# Parameters of glibc's malloc (mallopt(3)) and their values in bytes.
ALLOCATOR = {-1: 2**30, -3: 2**28}  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD


def slots() -> int:
    """Number of runs that this machine works on at once: MER_SLOTS, or else one per GPU, at least one.

    Raises ConfigError if MER_SLOTS is not a whole number from 1.
    """
    wanted = os.environ.get("MER_SLOTS", "")
    if wanted:
        if not wanted.isdecimal() or int(wanted) < 1:
            raise ConfigError(f"MER_SLOTS={wanted!r} should be a whole number from 1")
        return int(wanted)
    return max(1, gpus())


def gpus() -> int:
    """Number of NVIDIA GPUs, found without importing torch."""
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))


def processors() -> list[int]:
    """Numbers of the processors that this process may use."""
    mine = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return sorted(mine)


def cores() -> int:
    """Number of processors for one run: `processors` divided by `slots`, at least 1."""
    return max(1, len(processors()) // slots())


def keep_memory() -> bool:
    """Make the C library keep freed memory for reuse. Returns True if it supports that.

    By default glibc returns large blocks to the kernel and requests them again, page by page, for the next
    layer or clip. Measured on two cores: with memory kept, EfficientNet-B0 processes 100 windows a second
    instead of 60 (batches of 32), and a clip (10 s, 44.1 kHz stereo) takes 12 ms to prepare instead of 13 to
    20. Blocks over 256 MiB are still returned.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and all(mallopt(name, value) for name, value in ALLOCATOR.items())


def hand_back() -> None:
    """Return freed memory, which `keep_memory` keeps, to the system, if the C library supports that."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim:
        trim(0)


def wait_asleep() -> None:
    """Make OpenMP threads sleep while they wait for each other, also in child processes.

    Call it before torch is imported. By default they spin for milliseconds, which on busy cores takes time
    from the thread they wait for. A training step of MobileNetV3-Small (16 windows, two cores) takes 0.7 s
    instead of 2.8 s beside two busy processes, but 0.44 s instead of 0.35 s on idle cores, since waking takes
    time. OMP_WAIT_POLICY is not changed if it is set.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def wait_briefly() -> None:
    """Make OpenMP threads spin for about ten microseconds, then sleep, for use where cores may be idle.

    The step measured in `wait_asleep` takes 1.1 s beside two busy processes and 0.37 s on idle cores. Affects
    GNU's OpenMP, which torch uses on Linux. Nothing changes if OMP_WAIT_POLICY is set, as the dashboard does
    for its runs.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")

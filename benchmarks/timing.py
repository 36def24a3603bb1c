"""Times two implementations in turn, repeatedly."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

__all__ = ["Times", "alternate", "in_ms", "seconds"]


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds that each repetition took, ours and the baseline's."""

    ours: tuple[float, ...]
    baseline: tuple[float, ...]

    @property
    def medians(self) -> tuple[float, float]:
        """The median of ours and of the baseline's."""
        return median(self.ours), median(self.baseline)


def seconds(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def alternate(
    ours: Callable[[int], float], baseline: Callable[[int], float], *, times: int, first: int = 0
) -> Times:
    """Time ours, baseline, ours, baseline, ..., so that other load on the machine affects both alike.

    Each is called with the number of the repetition and returns its seconds. The `first` repetitions
    warm up and are not kept.
    """
    pairs = [(ours(number), baseline(number)) for number in range(first + times)][first:]
    return Times(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))


def in_ms(work: Callable[[], object], *, times: int = 15) -> float:
    """Median milliseconds of some calls, after one warm-up call."""
    work()
    return 1000 * median(seconds(work) for _ in range(times))

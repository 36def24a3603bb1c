"""Progress of long work: items done, rate and time left; durations and sizes for people.

Processes report progress as JSON: in the tag `mer.stage` of a run, and on standard error if
`MER_PROGRESS=json` is set.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

__all__ = ["Notify", "ProgressMeter", "ProgressReport", "duration", "megabytes"]

Notify = Callable[[str, int, int], None]  # title, done, total; total 0 if unknown


def duration(seconds: float | None) -> str:
    """A duration in s, min, or h and min, such as "9 s"; "unknown" for None."""
    if seconds is None:
        return "unknown"
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{round(seconds / 60) // 60} h {round(seconds / 60) % 60} min"


def megabytes(count: int) -> str:
    """A size in bytes as MB or GB."""
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.2f} GB"


@dataclass(frozen=True, slots=True)
class ProgressReport:
    """State of one titled phase of work.

    Parameters
    ----------
    title
        Name of the phase, such as "preparing clips".
    done, total
        Number of items done, and of all items; `total` is 0 if unknown.
    rate
        Items per second since the first report of the phase; None before the second report.
    seconds_left
        Estimated time for the remaining items, s; None without a rate.
    """

    title: str
    done: int = 0
    total: int = 0
    rate: float | None = None
    seconds_left: float | None = None

    def __str__(self) -> str:
        """Text such as "preparing clips: 120 of 490, 43 a second, 9 s left"."""
        text = f"{self.title}: {self.done} of {self.total}" if self.total else self.title
        if self.rate is None:
            return text
        rate = f"{self.rate:.{1 if self.rate < 10 else 0}f}"
        return f"{text}, {rate} a second, {duration(self.seconds_left)} left"

    @property
    def share(self) -> float:
        """Share done, in [0, 1]; 0 if the total is unknown."""
        return min(max(self.done / self.total, 0.0), 1.0) if self.total else 0.0

    def to_json(self) -> str:
        """One line of JSON with all fields."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "ProgressReport | None":
        """Inverse of `to_json`; None for any other text."""
        try:
            found = cls(**json.loads(text))
        except (ValueError, TypeError, RecursionError):
            return None
        counts = all(type(value) is int for value in (found.done, found.total))
        times = all(type(value) in (int, float, type(None)) for value in (found.rate, found.seconds_left))
        return found if isinstance(found.title, str) and counts and times else None

    @classmethod
    def read(cls, text: str) -> "ProgressReport":
        """Read a run's tag. Older versions wrote a sentence, which becomes the title."""
        return cls.from_json(text) or cls(text)


class ProgressMeter:
    """Makes reports with rate and time left.

    The rate counts from the first report of a phase, so items done before (in a resumed run) do not raise it.
    """

    def __init__(self) -> None:
        self.title, self.began, self.before, self.last = "", 0.0, 0, 0

    def __call__(self, title: str, done: int, total: int) -> ProgressReport:
        """The report for `done` of `total`."""
        now = time.monotonic()
        if title != self.title or done < self.last:
            self.title, self.began, self.before = title, now, done
        self.last = done
        made, seconds = done - self.before, now - self.began
        if not made or not seconds:
            return ProgressReport(title, done, total)
        rate = made / seconds
        return ProgressReport(title, done, total, rate, (total - done) / rate)

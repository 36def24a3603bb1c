"""How far long work is and how long it will still take, in words."""

import time

__all__ = ["Pace", "duration"]


def duration(seconds: float | None) -> str:
    """A time that people can take in at a glance."""
    if seconds is None:
        return "unknown"
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{round(seconds / 60) // 60} h {round(seconds / 60) % 60} min"


class Pace:
    """Says of each titled phase: "preparing clips: 120 of 490, 43 a second, 9 s left".

    The speed is counted from the phase's first report, so work that began before (a run that is resumed)
    does not flatter it.
    """

    def __init__(self) -> None:
        self.title, self.began, self.before, self.last = "", 0.0, 0, 0

    def __call__(self, title: str, done: int, total: int) -> str:
        """The sentence for `done` of `total`."""
        now = time.monotonic()
        if title != self.title or done < self.last:
            self.title, self.began, self.before = title, now, done
        self.last = done
        made, seconds = done - self.before, now - self.began
        text = f"{title}: {done} of {total}"
        if not made or not seconds:
            return text
        rate = made / seconds
        return f"{text}, {rate:.{1 if rate < 10 else 0}f} a second, {duration((total - done) / rate)} left"

"""The order of active runs: their places in the queue, and when a queued run is likely to start."""

import heapq
from collections.abc import Iterable, Sequence

from mer.runs.run import Run

__all__ = ["in_order", "likely_start", "queue_before"]

ORDER = ("running", "stopping", "queued", "interrupted")


def in_order(active: Iterable[Run]) -> list[Run]:
    """Runs at work first, then the queue in its order, then the interrupted runs."""
    return sorted(active, key=lambda run: (ORDER.index(run.status), run.started, run.id))


def queue_before(run: Run, active: Iterable[Run]) -> list[Run]:
    """The runs that start before a queued run, in their order; each machine has a queue of its own.

    Runs for a Ray cluster are in no queue here.
    """
    waiting = [
        other for other in active
        if other.status == "queued" and not other.needs and other.host == run.host
    ]  # fmt: skip
    return [other for other in in_order(waiting) if (other.started, other.id) < (run.started, run.id)]


def likely_start(run: Run, runs: Sequence[Run], *, slots: int, now: float) -> float | None:
    """Seconds until a queued run is likely to start.

    A running run says how long it still needs, or is taken to need as long as the newest finished run with
    the same network and data; so are the runs that start before this one.

    Parameters
    ----------
    run
        A queued run.
    runs
        All runs, newest first.
    slots
        Number of runs that its machine works on at once.
    now
        The present time, in s since 1970.

    Returns
    -------
    float or None
        None if the time of a run before it is unknown, or if the run needs a Ray cluster.
    """
    if run.needs:
        return None
    at_work = [
        other for other in runs
        if other.status in ("running", "stopping") and other.host == run.host and not other.parent
    ]  # fmt: skip
    free = [_left(other, runs, now) for other in at_work] + [0.0] * (slots - len(at_work))
    ahead = [_expected(other, runs) for other in queue_before(run, runs)]
    if None in free or None in ahead:
        return None
    heapq.heapify(free)
    for seconds in ahead:
        heapq.heappush(free, heapq.heappop(free) + seconds)
    return free[0]


def _left(run: Run, runs: Sequence[Run], now: float) -> float | None:
    """Seconds that a running run still needs; None if unknown."""
    if "seconds_left" in run.metrics:
        return run.metrics["seconds_left"]
    expected = _expected(run, runs)
    return None if expected is None or run.began is None else max(expected - (now - run.began), 0.0)


def _expected(run: Run, runs: Sequence[Run]) -> float | None:
    """Seconds that the newest finished run with the same network, data and folds has worked."""
    alike = (
        other.worked for other in runs if other.status == "finished" and _kind(other) == _kind(run)
    )  # fmt: skip
    return next(alike, None)


def _kind(run: Run) -> tuple:
    config = run.spec.get("config", {})
    train, folds = config.get("train", {}), config.get("split", {}).get("folds")
    return (
        run.spec.get("data"),
        folds,
        *(train.get(key) for key in ("backbone", "freeze", "solver", "epochs")),
    )

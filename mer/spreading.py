"""Work spread over the machines of a Ray cluster, one task for each item."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from mer.errors import ConfigError, MerError
from mer.parallel import Progress

__all__ = ["over_ray"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def _connect() -> object:
    """The module `ray`, connected to a cluster, or to one that it starts on this machine."""
    try:
        import ray
    except ImportError as error:
        raise ConfigError("--executor ray needs Ray: pip install ray") from error
    ray.init(ignore_reinit_error=True, log_to_driver=False, include_dashboard=False)
    return ray


def over_ray(
    function: Callable[[Item], Result], items: Sequence[Item], progress: Progress | None = None
) -> list[Result]:
    """`[function(item) for item in items]` by tasks of one core each; what one raises ends them all.

    A task whose machine is lost is done again elsewhere. Raises ConfigError where there is no Ray.
    """
    ray = _connect()
    task = ray.remote(num_cpus=1)(function)
    waiting = {task.remote(item): number for number, item in enumerate(items)}
    found: list[Result | None] = [None] * len(items)
    try:
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            found[waiting.pop(done)] = ray.get(done)
            if progress:
                progress(len(items) - len(waiting), len(items))
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, MerError) else error from None
    finally:
        for task in waiting:
            ray.cancel(task)
    return found

"""Work distributed over the machines of a Ray cluster, one task per item."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from mer.jobs.ray_cluster import connect
from mer.utils.errors import MerError
from mer.utils.parallel import Progress

__all__ = ["over_ray"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def _call(function: Callable[[Item], Result], item: Item) -> Result:
    return function(item)


def over_ray(
    function: Callable[[Item], Result], items: Sequence[Item], progress: Progress | None = None
) -> list[Result]:
    """Compute `[function(item) for item in items]` on a Ray cluster, in tasks of one core each.

    A task whose machine is lost runs again on another machine.

    Parameters
    ----------
    function
        Picklable function of one item. The exception of the first task that fails is raised here.
    items
        The items, in order.
    progress
        Called as `progress(done, total)` after each item.

    Raises
    ------
    ConfigError
        If there is no Ray.
    """
    with connect():
        import ray

        task = ray.remote(num_cpus=1)(_call)
        waiting = {task.remote(function, item): number for number, item in enumerate(items)}
        found: list[Result | None] = [None] * len(items)
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            try:
                found[waiting.pop(done)] = ray.get(done)
            except ray.exceptions.RayTaskError as error:
                raise (error.cause if isinstance(error.cause, MerError) else error) from None
            if progress:
                progress(len(items) - len(waiting), len(items))
        return found

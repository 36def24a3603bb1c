"""Work spread over the machines of a Ray cluster, one task for each item."""

import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from mer.errors import ConfigError, MerError
from mer.parallel import Progress

__all__ = ["over_ray"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def _call(function: Callable[[Item], Result], item: Item) -> Result:
    return function(item)


@contextmanager
def _connected() -> Iterator[Any]:
    """The module `ray`, part of the cluster at RAY_ADDRESS (host:port), or of a Ray of this machine alone."""
    address = os.environ.get("RAY_ADDRESS", "")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if not address:  # a Ray of our own answers to nobody else; it reads this when it is imported
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
    except ImportError as error:
        raise ConfigError("--executor ray needs Ray, which is not installed: pip install ray") from error
    place = {"address": address} if address else {"address": "local", "include_dashboard": False}
    try:
        ray.init(**place, logging_level="ERROR", log_to_driver=False)
    except Exception as error:
        reason = str(error).splitlines()[0][:160]
        raise ConfigError(f"no Ray at {address or 'this machine'} ({reason}); see RAY_ADDRESS") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def over_ray(
    function: Callable[[Item], Result], items: Sequence[Item], progress: Progress | None = None
) -> list[Result]:
    """`[function(item) for item in items]` by tasks of one core each; what one raises ends them all.

    A task whose machine is lost is done again elsewhere. Raises ConfigError where there is no Ray.
    """
    with _connected() as ray:
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

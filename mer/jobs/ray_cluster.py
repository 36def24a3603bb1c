"""A Ray cluster: the connection to it, and the resources that a training needs.

Ray is imported only when a cluster is used. Its usage reports are off. If no cluster is given, Ray is started
on this machine, without a dashboard and with a new token for access.
"""

import json
import math
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mer.utils.errors import ConfigError, reason_of

__all__ = ["Needs", "connect", "hosts", "nodes", "require"]

GB = 2**30
OBJECTS = 2**27  # bytes for Ray's object store; only short messages are passed here
PATIENCE = 5.0  # s for a cluster's address to answer; Ray itself would try for many minutes
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",  # else lines of several workers are merged and delayed
    "RAY_COLOR_PREFIX": "0",
}


@dataclass(frozen=True, slots=True)
class Needs:
    """Resources of one run on a cluster. Raises ConfigError for a value out of range.

    Parameters
    ----------
    workers
        Processes that train together, from 1.
    cpus, gpus, memory
        CPUs, GPUs (0 or 1) and GB of memory of each worker.
    """

    workers: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    memory: float = 0.0

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"--workers {self.workers} should be a whole number from 1")
        for name in ("cpus", "gpus", "memory"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"--{name}-per-worker {value} should be a number from 0")
        if self.gpus > 1 or 0 < self.gpus < 1:
            raise ConfigError(f"--gpus-per-worker {self.gpus:g} should be 0 or 1; use more --workers instead")
        if not (self.cpus or self.gpus):
            raise ConfigError("--cpus-per-worker 0 leaves a worker nothing to compute with; use 1")

    def to_json(self) -> str:
        """JSON text, which is stored with a run."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Needs":
        """The inverse of `to_json`; raises ConfigError."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise ConfigError(
                f"the run's cluster resources cannot be read: {text[:80]}; start a new run"
            ) from error

    @property
    def bundle(self) -> dict[str, float]:
        """The resources of one worker in Ray's names and units, without zeros."""
        wanted = {"CPU": self.cpus, "GPU": self.gpus, "memory": int(self.memory * GB)}
        return {name: value for name, value in wanted.items() if value}

    def room(self, nodes: Sequence[dict[str, float]]) -> int:
        """Number of such workers that fit on nodes with these resources; a worker is on one node."""
        return sum(
            min(int(node.get(name, 0) / value + 1e-9) for name, value in self.bundle.items())
            for node in nodes
        )

    def require_room(self, nodes: Sequence[dict[str, float]]) -> None:
        """Raise ConfigError if the workers do not fit on idle nodes, since Ray would wait forever."""
        if (room := self.room(nodes)) < self.workers:
            raise ConfigError(
                f"the cluster ({len(nodes)} nodes) has room for {room} of {self}; "
                "ask for less, or add nodes first: ray start --address HOST:PORT"
            )

    def __str__(self) -> str:
        """Text such as "2 workers with 4 CPUs, 1 GPU, 8 GB each", without zeros."""
        amounts = ((self.cpus, "CPU" if self.cpus == 1 else "CPUs"), (self.gpus, "GPU"), (self.memory, "GB"))
        given = ", ".join(f"{value:g} {unit}" for value, unit in amounts if value)
        return f"1 worker with {given}" if self.workers == 1 else f"{self.workers} workers with {given} each"


@contextmanager
def connect() -> Iterator[str]:
    """Connect to the cluster at RAY_ADDRESS (host:port), or start Ray on this machine.

    Yields a description of the cluster. At the end of the context, all actors, tasks and reservations end,
    and so does a Ray that was started here. Raises ConfigError if Ray is not installed, the address does not
    answer, or the cluster has another version of Ray.
    """
    require()
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    address = os.environ.get("RAY_ADDRESS", "")
    if not address:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # read once, when Ray is imported
    ray = _ray()
    place = {"address": address} if address else {
        "address": "local", "include_dashboard": False, "object_store_memory": OBJECTS
    }  # fmt: skip
    try:
        with _own_signals():
            ray.init(**place, logging_level="ERROR", log_to_driver=True)
    except Exception as error:
        raise ConfigError(
            f"no Ray at {address or 'this machine'} ({reason_of(error)}); "
            "see RAY_ADDRESS, RAY_AUTH_MODE, and 'ray status'"
        ) from error
    here = "a Ray of this machine alone"
    which = f"the Ray cluster at {address}, {len(nodes())} nodes" if address else here
    # Workers write to standard error. Standard output has only Ray's messages: hundreds when a node dies.
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        try:
            yield which
        finally:
            ray.shutdown()


def require() -> None:
    """Raise ConfigError if Ray is not installed, or if RAY_ADDRESS is set and does not answer."""
    if find_spec("ray") is None:
        raise ConfigError("--executor ray needs Ray, not installed here: pip install -r requirements-ray.txt")
    if address := os.environ.get("RAY_ADDRESS"):
        _require_answer(address)


def _ray() -> Any:
    import ray

    return ray


def _require_answer(address: str) -> None:
    """Raise ConfigError unless an address is valid and accepts connections."""
    host, _, port = address.rpartition(":")
    if not host or "/" in address or not port.isdecimal():
        raise ConfigError(f"RAY_ADDRESS={address!r} should be host:port, as 'ray start --head' prints it")
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"no Ray answers at RAY_ADDRESS={address} ({error}); start one: ray start --head --port {port}"
        ) from error


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep this process's signal handlers: Ray replaces the one for SIGTERM."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            with suppress(TypeError):  # None: it was not set from Python
                signal.signal(number, handler)


def nodes() -> list[dict[str, Any]]:
    """The live nodes of the cluster, as Ray describes them."""
    return [node for node in _ray().nodes() if node["Alive"]]


def hosts() -> set[str]:
    """Addresses of the machines that the nodes are on."""
    return {node["NodeManagerAddress"] for node in nodes()}

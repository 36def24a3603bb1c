"""A Ray cluster: joining it, what a training asks of it, and whether it will ever have that.

Ray is imported only once a cluster is asked for. Its reports about usage are off. A Ray that is started here,
for want of a cluster, has no dashboard and answers to nobody without a token made for it.
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

from mer.utils.errors import ConfigError

__all__ = ["Needs", "connect", "hosts", "nodes", "require"]

GB = 2**30
OBJECTS = 2**27  # bytes for Ray's own store of objects; what is passed around here is a few words
PATIENCE = 5.0  # s for a cluster's address to answer; Ray itself would ask for many minutes
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",  # lines of several workers would be joined, and late
    "RAY_COLOR_PREFIX": "0",
}


@dataclass(frozen=True, slots=True)
class Needs:
    """So many workers, each with CPUs, GPUs and GB of memory of its own. Raises ConfigError."""

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
        """As it is kept with a run."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Needs":
        """The inverse of `to_json`; raises ConfigError."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise ConfigError(f"what the run asked of a cluster cannot be read: {text[:80]}") from error

    @property
    def bundle(self) -> dict[str, float]:
        """What one worker takes, in Ray's words and units; nothing that is not asked for."""
        wanted = {"CPU": self.cpus, "GPU": self.gpus, "memory": int(self.memory * GB)}
        return {name: value for name, value in wanted.items() if value}

    def room(self, nodes: Sequence[dict[str, float]]) -> int:
        """How many such workers nodes with these resources hold together, each on one node."""
        return sum(
            min(int(node.get(name, 0) / value + 1e-9) for name, value in self.bundle.items())
            for node in nodes
        )

    def require_room(self, nodes: Sequence[dict[str, float]]) -> None:
        """Raise ConfigError if those nodes could never hold the workers, even when idle; Ray would wait."""
        if (room := self.room(nodes)) < self.workers:
            raise ConfigError(
                f"the cluster ({len(nodes)} nodes) has room for {room} of {self}; "
                "ask for less, or add nodes first: ray start --address HOST:PORT"
            )

    def __str__(self) -> str:
        parts = [f"{self.cpus:g} CPUs", f"{self.gpus:g} GPU", f"{self.memory:g} GB"]
        given = [
            part for part, value in zip(parts, (self.cpus, self.gpus, self.memory), strict=True) if value
        ]
        return f"{self.workers} workers with {', '.join(given)} each"


@contextmanager
def connect() -> Iterator[str]:
    """Be part of the cluster at RAY_ADDRESS (host:port), or of a Ray started for it; gives which, in words.

    What it started, actors, tasks and reservations, ends with it, and so does a Ray of our own. Raises
    ConfigError if Ray is not installed, nobody answers, or another version does.
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
            f"no Ray at {address or 'this machine'} ({str(error).splitlines()[0][:160]}); "
            "see RAY_ADDRESS, RAY_AUTH_MODE, and 'ray status'"
        ) from error
    here = "a Ray of this machine alone"
    which = f"the Ray cluster at {address}, {len(nodes())} nodes" if address else here
    # Workers write to standard error; what is left is what Ray says, hundreds of lines when a node dies.
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        try:
            yield which
        finally:
            ray.shutdown()


def require() -> None:
    """Raise ConfigError if Ray is not installed, or nobody answers at RAY_ADDRESS where that is set."""
    if find_spec("ray") is None:
        raise ConfigError("--executor ray needs Ray, not installed here: pip install -r requirements-ray.txt")
    if address := os.environ.get("RAY_ADDRESS"):
        _require_answer(address)


def _ray() -> Any:
    import ray

    return ray


def _require_answer(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or "/" in address or not port.isdecimal():
        raise ConfigError(f"RAY_ADDRESS={address!r} should be host:port, as 'ray start --head' says it")
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"no Ray answers at RAY_ADDRESS={address} ({error}); start one: ray start --head --port {port}"
        ) from error


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep this process's own handlers: Ray puts one of its own on SIGTERM."""
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
    """The living nodes of the cluster, as Ray tells of them."""
    return [node for node in _ray().nodes() if node["Alive"]]


def hosts() -> set[str]:
    """Addresses of the machines that the nodes are on."""
    return {node["NodeManagerAddress"] for node in nodes()}

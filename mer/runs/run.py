"""One run as data, and whether its process is still there. Imports neither torch nor MLflow."""

import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from mer.data.cache.controls import CONTROLS
from mer.utils.errors import RunError
from mer.utils.files import home, leftovers
from mer.utils.versions import upgraded

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

__all__ = [
    "ACTIVE",
    "ENDED",
    "RESUMABLE",
    "SILENCE",
    "STATUS",
    "Run",
    "TakenError",
    "drop_state",
    "host_of",
    "is_mine",
    "owner",
    "state_path",
    "to_run",
]

# MLflow's words and ours.
STATUS = {
    "SCHEDULED": "queued",
    "RUNNING": "running",
    "FINISHED": "finished",
    "FAILED": "failed",
    "KILLED": "stopped",
}
ACTIVE = ("queued", "running", "stopping", "interrupted")
ENDED = ("finished", "failed", "stopped")
RESUMABLE = ("stopped", "interrupted", "failed")
SILENCE = 120.0  # s without a heartbeat after which another machine's process counts as gone
TURN = "mer.turn."


class TakenError(RunError):
    """Another process works on the run, which this one is therefore to leave alone."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run as the store knows it.

    `status` is queued, running, stopping, interrupted (its process is gone), finished, failed or stopped.
    `spec` is what was asked for (see `mer.experiments`); `metrics` the newest value of each; times in s.
    """

    id: str
    name: str
    status: str
    started: float
    ended: float | None
    spec: dict[str, Any]
    metrics: dict[str, float]
    parent: str | None = None
    reason: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    turn: int = 0  # how often it was taken on again

    @property
    def data_hash(self) -> str | None:
        """Hash of the clips that the run works on."""
        return self.tags.get("mer.data_hash")

    @property
    def members(self) -> tuple[str, ...]:
        """Ids of the runs that an ensemble joins; empty for any other run."""
        return tuple(filter(None, self.tags.get("mer.members", "").split(",")))

    @property
    def checkpoint_run(self) -> str:
        """Id of the run that keeps the checkpoint: this one, or a fold of a cross-validation."""
        return self.tags.get("mer.checkpoint_run", self.id)

    def require_readable(self) -> None:
        """Raise RunError if a newer mer made it, which may mean something else by its settings."""
        text = self.tags.get("mer.format", "1")  # runs of before there were formats have none
        number = int(text) if text.isdecimal() else text
        upgraded("run", self.spec, number, where=f"run {self.id[:8]}", error=RunError)

    @property
    def steps(self) -> int | None:
        """Optimizer steps of the whole training; None before the first."""
        return self._count("mer.steps")

    @property
    def classes(self) -> int | None:
        """Number of classes; None before the clips were looked at."""
        return self._count("mer.classes")

    @property
    def validation_clips(self) -> int | None:
        """Number of clips that validation accuracy is counted on."""
        return self._count("mer.validation_clips")

    def _count(self, tag: str) -> int | None:
        text = self.tags.get(tag, "")
        return int(text) if text.isdecimal() else None

    @property
    def waits_here(self) -> bool:
        """True if a process of this machine waits to work on it."""
        return self.status == "queued" and _is_here(_owner(self.tags))

    @property
    def elsewhere(self) -> bool:
        """True if a process of another machine works on it, or last did."""
        known = _owner(self.tags)
        return bool(known) and not _is_here(known)

    @property
    def waits_elsewhere(self) -> bool:
        """True if a process of another machine waits to work on it, and gives signs of life."""
        return self.status == "queued" and self.elsewhere and "mer.beat" in self.tags

    @property
    def host(self) -> str:
        """Name of the machine that works on it, or last did; empty where none is known."""
        return host_of(self.tags)

    @property
    def needs(self) -> str:
        """What it asks of a Ray cluster, as `mer.jobs` wrote it; empty if this machine works on it."""
        return self.tags.get("mer.needs", "")

    @property
    def control(self) -> str:
        """What makes it a control run (see `mer.data.cache.controls`), in words; empty for any other."""
        try:
            return CONTROLS.get(self.spec["config"]["split"]["control"], "")
        except (KeyError, TypeError):
            return ""

    @property
    def synthetic(self) -> bool:
        """True if the run's clips were generated."""
        return self.tags.get("mer.synthetic") == "True"


def state_path(run_id: str) -> Path:
    """Where the state of an unfinished run is kept."""
    return home() / "runs" / run_id / "state.safetensors"


def drop_state(path: Path) -> None:
    """Forget the state of a run that needs none any more, and what a killed process had begun to write."""
    for file in (path, *leftovers(path)):
        file.unlink(missing_ok=True)
    if path.parent.is_dir() and not any(path.parent.iterdir()):
        path.parent.rmdir()


def owner(pid: int | None = None) -> str:
    """A process (default: this one), in words that tell it from a later one with the same number."""
    process = psutil.Process(pid or os.getpid())
    place = {"host": socket.gethostname(), "boot": _boot()}
    return json.dumps(place | {"pid": process.pid, "born": process.create_time()})


@lru_cache(maxsize=1)
def _boot() -> str:
    """A name of this start of this machine, which tells two machines of one name apart; "" if unknown."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def host_of(tags: dict[str, str]) -> str:
    """Name of the machine that works on a run, last did, or recorded it; empty where none is known."""
    known = _owner(tags) or _owner(tags, "mer.maker")
    return str(known.get("host", ""))


def is_mine(tags: dict[str, str], me: str) -> bool:
    """True unless another process than `me`, an `owner`, has taken on the run with these tags."""
    known = _owner(tags)
    if not known:
        return True
    mine = json.loads(me)
    same = all(known.get(key) == mine.get(key) for key in ("host", "boot", "pid"))
    try:
        return same and abs(known["born"] - mine["born"]) < 1
    except (KeyError, TypeError):
        return False


def to_run(run: "MlflowRun", now: Callable[[], float]) -> Run:
    """From MLflow's record; `now` tells the time of the machine that keeps the runs, in s since 1970."""
    tags, info = run.data.tags, run.info
    try:
        spec = json.loads(tags.get("mer.spec", "{}"))
    except (ValueError, RecursionError):
        spec = {}
    return Run(
        id=info.run_id,
        name=tags.get("mlflow.runName", info.run_id[:8]),
        status=_status(info.status, tags, now),
        started=info.start_time / 1000,
        ended=info.end_time / 1000 if info.end_time else None,
        spec=spec,
        metrics=dict(run.data.metrics),
        parent=tags.get("mlflow.parentRunId"),
        reason=tags.get("mer.reason") or None,
        tags=dict(tags),
        turn=sum(name.startswith(TURN) for name in run.data.params),
    )


def _status(status: str, tags: dict[str, str], now: Callable[[], float]) -> str:
    if status not in ("RUNNING", "SCHEDULED"):
        return STATUS.get(status, "failed")
    owner = _owner(tags) or _owner(tags, "mer.maker")  # until a process works on it: who recorded it
    if not _alive(owner) if _is_here(owner) else _silent(tags, now):
        return "interrupted"
    return "stopping" if status == "RUNNING" and tags.get("mer.stop") == "1" else STATUS[status]


def _owner(tags: dict[str, str], name: str = "mer.owner") -> dict[str, Any]:
    try:
        found = json.loads(tags.get(name, "{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _is_here(owner: dict[str, Any]) -> bool:
    """True for a process of this machine since it was started."""
    return owner.get("host") == socket.gethostname() and owner.get("boot", _boot()) == _boot()


def _silent(tags: dict[str, str], now: Callable[[], float]) -> bool:
    """True if the last sign of life is too long ago; runs of an older mer, which gave none, are believed."""
    try:
        return now() - float(tags["mer.beat"]) > SILENCE
    except (KeyError, ValueError):
        return False


def _alive(owner: dict[str, Any]) -> bool:
    """True if the process is there and is the same one, not a later one with its number."""
    try:
        process = psutil.Process(owner["pid"])
        same = abs(process.create_time() - owner["born"]) < 1
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, KeyError, TypeError):
        return False

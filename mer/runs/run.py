"""One run as data, and whether its process is alive. Imports neither torch nor MLflow."""

import json
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from mer.data.apart import PARTED, leak_mark
from mer.data.cache.controls import CONTROLS
from mer.runs.moving import home_of_run, is_same_home
from mer.utils.errors import RunError
from mer.utils.files import home, leftovers, moved_path
from mer.utils.versions import upgraded

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

__all__ = [
    "ACTIVE",
    "ENDED",
    "HOME",
    "RESUMABLE",
    "SILENCE",
    "STATUS",
    "GoneError",
    "Run",
    "TakenError",
    "drop_state",
    "host_of",
    "is_mine",
    "made_in",
    "owner",
    "state_path",
    "to_run",
]

# MLflow's status and ours.
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
SILENCE = 120.0  # s without a heartbeat after which a process of another machine counts as dead
TURN = "mer.turn."
HOME = "mer.home"  # the home in which a run was made: places below it in its settings move with the home


class TakenError(RunError):
    """Another process has taken over the run, so this one must not change it."""


class GoneError(RunError):
    """There is no such run. It may have been deleted."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run as the store records it.

    Parameters
    ----------
    id, name
        Its id in MLflow, and its name for people.
    status
        queued, running, stopping, interrupted (its process has died), finished, failed or stopped.
    started, ended
        In s since 1970; `ended` is None for an unfinished run.
    spec
        The request as plain data (`mer.experiments.prepared.Spec`).
    metrics
        The newest value of each metric.
    parent
        Id of the cross-validation, for a fold.
    reason
        Why it failed or was stopped.
    tags
        All tags of its record.
    turn
        Number of times that it was resumed.
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
    turn: int = 0

    @property
    def began(self) -> float | None:
        """When a process last began to work on it, in s since 1970; None while it waits, or if unknown."""
        return self._seconds("mer.began")

    @property
    def worked(self) -> float | None:
        """Seconds of work on an ended run, without the wait in the queue; None for any other run."""
        if self.ended is None:
            return None
        worked = self._seconds("mer.worked")  # an older mer wrote none
        return self.ended - self.started if worked is None else worked

    @property
    def waited(self) -> float | None:
        """Seconds that an ended run waited in the queue; None if unknown, as for one that was resumed."""
        if self.ended is None:
            return None
        worked = self._seconds("mer.worked")
        return None if self.turn or worked is None else max(self.ended - self.started - worked, 0.0)

    @property
    def solved(self) -> bool:
        """True if its head is solved. It then has strengths of regularisation in place of epochs."""
        return self.spec.get("config", {}).get("train", {}).get("solver", "steps") != "steps"

    @property
    def data_hash(self) -> str | None:
        """Hash of its clips; None before they were checked."""
        return self.tags.get("mer.data_hash")

    @property
    def members(self) -> tuple[str, ...]:
        """Ids of the runs that an ensemble combines; empty for any other run."""
        return tuple(filter(None, self.tags.get("mer.members", "").split(",")))

    @property
    def checkpoint_run(self) -> str:
        """Id of the run with the checkpoint: this one, or a fold of this cross-validation."""
        return self.tags.get("mer.checkpoint_run", self.id)

    @property
    def kept_fold(self) -> str:
        """Which fold of a cross-validation has the checkpoint, in words."""
        split = self.spec.get("config", {}).get("split", {})
        return "the one with the lowest validation loss" if split.get("validation", 1) else "the first"

    def require_readable(self) -> None:
        """Raise RunError if a newer version of mer made it, whose settings may have another meaning."""
        _upgraded({}, self.tags, self.id)

    @property
    def steps(self) -> int | None:
        """Optimizer steps of the whole training; None before the first."""
        return self._count("mer.steps")

    @property
    def classes(self) -> int | None:
        """Number of classes; None before the clips were checked."""
        return self._count("mer.classes")

    @property
    def validation_clips(self) -> int | None:
        """Number of validation clips; None before the clips were split."""
        return self._count("mer.validation_clips")

    def _count(self, tag: str) -> int | None:
        text = self.tags.get(tag, "")
        return int(text) if text.isdecimal() else None

    def _seconds(self, tag: str) -> float | None:
        try:
            return float(self.tags[tag])
        except (KeyError, ValueError):
            return None

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
        """True if a process of another machine waits to work on it, with a recent heartbeat."""
        return self.status == "queued" and self.elsewhere and "mer.beat" in self.tags

    @property
    def host(self) -> str:
        """Name of the machine that works on it, or last did; empty if unknown."""
        return host_of(self.tags)

    @property
    def needs(self) -> str:
        """Its resources on a Ray cluster (`mer.jobs.ray_cluster.Needs`) as JSON; empty without a cluster."""
        return self.tags.get("mer.needs", "")

    @property
    def control(self) -> str:
        """The kind of control run (see `mer.data.cache.controls`) in words; empty for any other run."""
        try:
            return CONTROLS.get(self.spec["config"]["split"]["control"], "")
        except (KeyError, TypeError):
            return ""

    @property
    def leak(self) -> str:
        """Whether its test songs were in training: one of `mer.data.apart.MARKS`."""
        config = self.spec.get("config")
        split = config.get("split") if isinstance(config, dict) else None
        known = split if isinstance(split, dict) else {}
        return leak_mark(self.tags.get("mer.leak"), known, self.metrics)

    @property
    def leaky(self) -> bool:
        """True if clips of its test songs were in training, so that it must not be ranked with others."""
        return self.leak == PARTED

    @property
    def synthetic(self) -> bool:
        """True if the run's clips were generated."""
        return self.tags.get("mer.synthetic") == "True"


def state_path(run_id: str) -> Path:
    """The file with the state of an unfinished run."""
    return home() / "runs" / run_id / "state.safetensors"


def drop_state(path: Path) -> None:
    """Delete the state of a run, and unfinished files of processes that were killed."""
    for file in (path, *leftovers(path)):
        file.unlink(missing_ok=True)
    if path.parent.is_dir() and not any(path.parent.iterdir()):
        path.parent.rmdir()


def owner(pid: int | None = None) -> str:
    """Identify a process that works in this home, as JSON. A later process with the same number differs.

    Parameters
    ----------
    pid
        Number of the process. Default: this process.
    """
    process = psutil.Process(pid or os.getpid())
    place = {"host": socket.gethostname(), "boot": _boot(), "home": str(home())}
    return json.dumps(place | {"pid": process.pid, "born": process.create_time()})


@lru_cache(maxsize=1)
def _boot() -> str:
    """Id of this boot, which distinguishes machines with the same name; "" if unknown."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def host_of(tags: dict[str, str]) -> str:
    """Name of the machine that works on a run, last did, or recorded it; empty if unknown."""
    known = _owner(tags) or _owner(tags, "mer.maker")
    return str(known.get("host", ""))


def is_mine(tags: dict[str, str], me: str) -> bool:
    """False if the tags of a run name an owner other than `me`, which is a text that `owner` returns."""
    known = _owner(tags)
    if not known:
        return True
    mine = json.loads(me)
    same = all(known.get(key) == mine.get(key) for key in ("host", "boot", "pid"))
    try:
        return same and abs(known["born"] - mine["born"]) < 1
    except (KeyError, TypeError):
        return False


def to_run(run: "MlflowRun", now: Callable[[], float], root: Path | None = None) -> Run:
    """Make a `Run` from MLflow's record.

    Parameters
    ----------
    run
        The record.
    now
        Returns the time of the machine that keeps the runs, in s since 1970.
    root
        The home that keeps the runs; None for a server.
    """
    tags, info = run.data.tags, run.info
    spec = _spec(tags, info.run_id)
    if isinstance(spec.get("data"), str):
        made = tags.get(HOME) or (home_of_run(info.artifact_uri, info.run_id) if root else "")
        spec["data"] = moved_path(spec["data"], made, root or home(), shared=root is None)
    return Run(
        id=info.run_id,
        name=tags.get("mlflow.runName", info.run_id[:8]),
        status=_status(info.status, tags, now, root),
        started=info.start_time / 1000,
        ended=info.end_time / 1000 if info.end_time else None,
        spec=spec,
        metrics=dict(run.data.metrics),
        parent=tags.get("mlflow.parentRunId"),
        reason=tags.get("mer.reason") or None,
        tags=dict(tags),
        turn=sum(name.startswith(TURN) for name in run.data.params),
    )


def made_in(spec: dict[str, Any]) -> str:
    """The home in which a run with this spec is made, as an absolute path.

    If the data are in the home, the path begins like that of the data: with links followed, or not.
    """
    own, data = home(), Path(str(spec.get("data", "")))
    real = own.resolve()
    return str(real if data.is_relative_to(real) and not data.is_relative_to(own) else own)


def _spec(tags: dict[str, str], run_id: str) -> dict[str, Any]:
    """The request of a run in the present format. One of a newer or invalid format is returned unchanged."""
    try:
        spec = json.loads(tags.get("mer.spec", "{}"))
    except (ValueError, RecursionError):
        spec = {}
    if not isinstance(spec, dict):
        return {}
    with suppress(RunError):  # such a run is listed nevertheless; see Run.require_readable
        return _upgraded(spec, tags, run_id)
    return spec


def _upgraded(spec: dict[str, Any], tags: dict[str, str], run_id: str) -> dict[str, Any]:
    """The spec in the present format; raises RunError if its format is newer or invalid."""
    text = tags.get("mer.format", "1")  # older runs have no format
    number = int(text) if text.isdecimal() else text
    return upgraded("run", spec, number, where=f"run {run_id[:8]}", error=RunError)


def _status(status: str, tags: dict[str, str], now: Callable[[], float], root: Path | None) -> str:
    """Our status for a status of MLflow; "interrupted" if the process of an active run is gone."""
    if status not in ("RUNNING", "SCHEDULED"):
        return STATUS.get(status, "failed")
    owner = _owner(tags) or _owner(tags, "mer.maker")  # before it starts, the process that recorded it
    gone = not (_alive(owner) and _works_in(owner, root)) if _is_here(owner) else _is_silent(tags, now)
    if gone:
        return "interrupted"
    return "stopping" if status == "RUNNING" and tags.get("mer.stop") == "1" else STATUS[status]


def _works_in(owner: dict[str, Any], root: Path | None) -> bool:
    """False if the process works in another home, which this one was copied or moved from.

    Older versions of mer did not record the home. Their processes count as working in this one.
    """
    place = owner.get("home")
    return root is None or not isinstance(place, str) or is_same_home(place, root)


def _owner(tags: dict[str, str], name: str = "mer.owner") -> dict[str, Any]:
    try:
        found = json.loads(tags.get(name, "{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _is_here(owner: dict[str, Any]) -> bool:
    """True for a process of this machine since its last boot."""
    return owner.get("host") == socket.gethostname() and owner.get("boot", _boot()) == _boot()


def _is_silent(tags: dict[str, str], now: Callable[[], float]) -> bool:
    """True if the last heartbeat is too old. Runs that predate heartbeats always count as running."""
    try:
        return now() - float(tags["mer.beat"]) > SILENCE
    except (KeyError, ValueError):
        return False


def _alive(owner: dict[str, Any]) -> bool:
    """True if the process is alive, and is not a later one with the same number."""
    try:
        process = psutil.Process(owner["pid"])
        same = abs(process.create_time() - owner["born"]) < 1
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, KeyError, TypeError):
        return False

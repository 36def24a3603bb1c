"""One run as data, and whether its process is still there. Imports neither torch nor MLflow."""

import json
import os
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

__all__ = ["STATUS", "Run", "owner", "to_run"]

# MLflow's words and ours.
STATUS = {
    "SCHEDULED": "queued",
    "RUNNING": "running",
    "FINISHED": "finished",
    "FAILED": "failed",
    "KILLED": "stopped",
}


@dataclass(frozen=True, slots=True)
class Run:
    """One run as the store knows it.

    `status` is queued, running, stopping, interrupted (its process is gone), finished, failed or stopped.
    `spec` is what was asked for (see mer.experiments); `metrics` the newest value of each; times in s.
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

    @property
    def data_hash(self) -> str | None:
        """Hash of the clips that the run works on."""
        return self.tags.get("mer.data_hash")

    @property
    def synthetic(self) -> bool:
        """True if the run's clips were generated."""
        return self.tags.get("mer.synthetic") == "True"


def owner() -> str:
    """The current process, in words that tell it from a later one with the same number."""
    me = psutil.Process(os.getpid())
    return json.dumps({"host": socket.gethostname(), "pid": me.pid, "born": me.create_time()})


def to_run(run: "MlflowRun") -> Run:
    """From MLflow's record."""
    tags, info = run.data.tags, run.info
    try:
        spec = json.loads(tags.get("mer.spec", "{}"))
    except ValueError:
        spec = {}
    return Run(
        id=info.run_id,
        name=tags.get("mlflow.runName", info.run_id[:8]),
        status=_status(info.status, tags),
        started=info.start_time / 1000,
        ended=info.end_time / 1000 if info.end_time else None,
        spec=spec,
        metrics=dict(run.data.metrics),
        parent=tags.get("mlflow.parentRunId"),
        reason=tags.get("mer.reason") or None,
        tags=dict(tags),
    )


def _status(status: str, tags: dict[str, str]) -> str:
    if status != "RUNNING":
        return STATUS.get(status, "failed")
    try:
        owner = json.loads(tags.get("mer.owner", "{}"))
    except ValueError:
        owner = {}
    if owner.get("host") == socket.gethostname() and not _alive(owner):
        return "interrupted"
    return "stopping" if tags.get("mer.stop") == "1" else "running"


def _alive(owner: dict[str, Any]) -> bool:
    """True if the process is there and is the same one, not a later one with its number."""
    try:
        return abs(psutil.Process(owner["pid"]).create_time() - owner["born"]) < 1
    except (psutil.Error, KeyError, TypeError):
        return False

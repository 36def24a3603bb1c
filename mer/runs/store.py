"""The run store: reads and writes runs in MLflow.

By default that is a SQLite database with artifacts under MER_HOME; `MLFLOW_TRACKING_URI` names a server
instead. `mlflow ui` works on both. This module does not import torch.
"""

import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mer.runs.artifacts import Artifacts
from mer.runs.connection import changing, guarded, open_local, open_uri
from mer.runs.listing import Listing, matching
from mer.runs.moving import Place
from mer.runs.run import (
    HOME,
    RESUMABLE,
    STATUS,
    TURN,
    Run,
    TakenError,
    host_of,
    is_mine,
    made_in,
    owner,
    to_run,
)
from mer.runs.server import Server, is_away
from mer.utils.files import home
from mer.utils.versions import CURRENT

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["RunStore"]

BATCH_LIMIT = 1000  # metrics that MLflow takes in one call
PARAM_LIMIT = 100  # and settings


class RunStore:
    """Reads and writes runs. Methods raise StorageError if the store cannot be used.

    Parameters
    ----------
    client
        MLflow's client.
    experiment
        The id of our experiment in MLflow.
    server
        The server that keeps the runs; None for a local database.
    place
        The home that keeps the runs; None with a server.
    owner
        The owner recorded with runs that this process works on, as `run.owner` writes it. Default: this
        process.
    patience
        Seconds for which calls are repeated if the server does not answer; 0 for processes that only read.
    """

    def __init__(
        self,
        client: "MlflowClient",
        experiment: str,
        server: Server | None = None,
        place: Place | None = None,
        *,
        owner: str = "",
        patience: float = 0.0,
    ) -> None:
        self.client, self.experiment, self.server, self.place = client, experiment, server, place
        self.root = place.root if place else None
        self._owner, self.patience = owner, patience
        self.listing = Listing(self.search, self.active, self._read_run)
        self.artifacts = Artifacts(client, shared=server is not None, root=self.root)

    @classmethod
    @guarded
    def open(cls) -> "RunStore":
        """Open the store that the environment names; it is created on first use. Raises StorageError."""
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        return _of_uri(uri) if uri else _of_home(home())

    def for_worker(self, *, owner: str = "", patience: float = 0.0) -> "RunStore":
        """Return the same store for a process that works on runs.

        `RunStore.open` returns one object to all callers in a process. A worker has an object of its own, so
        its owner and its patience do not change what other callers see.
        """
        return RunStore(
            self.client, self.experiment, self.server, self.place,
            owner=owner or self._owner, patience=patience,
        )  # fmt: skip

    @property
    def owner(self) -> str:
        """The owner that runs started here are recorded with."""
        return self._owner or owner()

    @staticmethod
    def exists() -> bool:
        """True if a store exists already."""
        return bool(os.environ.get("MLFLOW_TRACKING_URI")) or (home() / "mlflow.db").exists()

    @staticmethod
    def version() -> int:
        """A number that changes whenever the store changes, so that readers can skip needless reads.

        With a server, whose changes are not visible here, it changes once a second.
        """
        if os.environ.get("MLFLOW_TRACKING_URI"):
            return int(time.time())
        found = [path.stat() for path in home().glob("mlflow.db*")]
        return hash(tuple((stat.st_mtime_ns, stat.st_size) for stat in found))

    def require_home(self) -> None:
        """Raise StorageError if the home that keeps the runs was moved since the store was opened."""
        if self.place:
            self.place.require()

    def place_of(self, run: Run) -> Path | None:
        """The folder for a run's artifacts, whether or not it exists; None if a server keeps them."""
        return self.artifacts.place(run.id)

    @property
    def shared(self) -> bool:
        """True if a server keeps the runs. Other machines may then work on them."""
        return self.server is not None

    def now(self) -> float:
        """The time that heartbeats are compared with, in s since 1970: the server's, if there is one."""
        return self.server.now() if self.server else time.time()

    @changing
    def create(self, name: str, spec: dict[str, Any], *, parent: str | None = None) -> str:
        """Record a new queued run and return its id.

        It counts as interrupted if this process dies before another one starts the run.

        Parameters
        ----------
        name
            Name of the run, for people.
        spec
            The request as plain data.
        parent
            Id of the cross-validation, for a fold.
        """
        from mlflow.entities import Param

        tags = {"mer.spec": json.dumps(spec), "mer.format": str(CURRENT["run"]), "mlflow.runName": name}
        tags |= {"mer.maker": owner(), "mer.beat": self._beat(), HOME: made_in(spec)}
        if parent:
            tags["mlflow.parentRunId"] = parent
        run = self.client.create_run(self.experiment, tags=tags)
        self.client.update_run(run.info.run_id, status="SCHEDULED")
        params = [Param(key, value) for key, value in _flattened(spec)]
        for start in range(0, len(params), PARAM_LIMIT):
            self.client.log_batch(run.info.run_id, params=params[start : start + PARAM_LIMIT])
        return run.info.run_id

    @changing
    def start(self, run_id: str) -> None:
        """Mark a run as running, with its owner, so that others can tell when the owner is gone."""
        tags = dict.fromkeys(("mer.stop", "mer.reason", "mer.stage"), "")
        tags |= {"mer.owner": self.owner, "mer.beat": self._beat(), "mer.began": f"{self.now():.1f}"}
        self.tag(run_id, tags)
        self.client.update_run(run_id, status="RUNNING")

    @changing
    def take(self, run: Run) -> None:
        """Take over an unfinished run, as it was when `run` was read.

        Each turn is a parameter in MLflow, which can be written only once. So of several processes, on any
        machine, exactly one succeeds. Raises TakenError if another process did.
        """
        from mlflow.exceptions import MlflowException

        now = self.get(run.id)
        if now.status not in (*RESUMABLE, "queued"):  # its own process sent a heartbeat again
            raise _taken(now)
        try:
            self.client.log_param(run.id, f"{TURN}{run.turn + 1}", f"{owner()} {secrets.token_hex(8)}")
        except MlflowException as error:
            if is_away(error):
                raise
            raise _taken(self.get(run.id)) from error

    def beat(self, run_id: str) -> None:
        """Record a heartbeat of a run that this process works on."""
        self.tag(run_id, {"mer.beat": self._beat()})

    def _beat(self) -> str:
        return f"{self.now():.0f}"

    @changing
    def enqueue(self, run_id: str) -> None:
        """Mark a run as queued, whatever its status was."""
        tags = dict.fromkeys(("mer.owner", "mer.stop", "mer.reason", "mer.stage", "mer.began"), "")
        self.tag(run_id, tags | {"mer.maker": owner(), "mer.beat": self._beat()})
        self.client.update_run(run_id, status="SCHEDULED")

    @changing
    def finish(self, run_id: str, status: str, *, reason: str = "") -> None:
        """Record the end of a run.

        Parameters
        ----------
        run_id
            Id of the run.
        status
            "finished", "failed" or "stopped".
        reason
            Why it failed or was stopped; the first 4000 characters are kept.
        """
        run = self.get(run_id)
        worked = float(run.tags.get("mer.worked") or 0) + (self.now() - run.began if run.began else 0)
        self.tag(run_id, {"mer.reason": reason[:4000], "mer.worked": f"{worked:.1f}", "mer.began": ""})
        word = next(key for key, value in STATUS.items() if value == status)
        self.client.set_terminated(run_id, status=word)

    @changing
    def tag(self, run_id: str, tags: dict[str, str]) -> None:
        """Set tags of a run."""
        from mlflow.entities import RunTag

        self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    @changing
    def log(self, run_id: str, rows: list[tuple[int, dict[str, float]]]) -> None:
        """Log rows of (step, metrics) in as few calls as MLflow allows."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(key, float(value), now, step) for step, row in rows for key, value in row.items()]
        for start in range(0, len(metrics), BATCH_LIMIT):
            self.client.log_batch(run_id, metrics=metrics[start : start + BATCH_LIMIT])

    @guarded
    def history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """All (step, value) of a metric by step. If a step was logged twice, the later value counts."""
        found = self.client.get_metric_history(run_id, metric)
        return sorted({m.step: m.value for m in sorted(found, key=lambda m: m.timestamp)}.items())

    def runs(self) -> list[Run]:
        """All runs, newest first."""
        return self.listing.runs() if self.shared else self.search("")

    def active(self) -> list[Run]:
        """Runs that are queued, running, stopping or interrupted, newest first."""
        found = [run for word in ("RUNNING", "SCHEDULED") for run in self.search(f"status = '{word}'")]
        return sorted(found, key=lambda run: -run.started)

    @guarded
    def search(self, condition: str, most: int | None = None, *, deleted: bool = False) -> list[Run]:
        """Runs that fulfil an MLflow condition, newest first: all, or at most `most`."""
        from mlflow.entities import ViewType

        found, token = [], None
        view = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
        while True:
            order = ["attributes.start_time DESC"]
            page = self.client.search_runs([self.experiment], condition, view, most or 500, order, token)
            found += [to_run(run, self.now, self.root) for run in page]
            token = page.token
            if not token or most:
                return found

    def get(self, name: str) -> Run:
        """The run whose id starts with `name`; raises GoneError if there is none, RunError if several."""
        found = [self._read_run(name)] if re.fullmatch("[0-9a-f]{32}", name) else self.runs()
        return matching(filter(None, found), name, remedy="'mer runs list' shows them")

    @guarded
    def _read_run(self, run_id: str) -> Run | None:
        """The run with this id; None if it does not exist in our experiment."""
        from mlflow.exceptions import MlflowException

        try:
            found = self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        ours = found.info.experiment_id == self.experiment and found.info.lifecycle_stage == "active"
        return to_run(found, self.now, self.root) if ours else None

    def children(self, run_id: str) -> list[Run]:
        """The runs of a cross-validation, oldest first."""
        return [run for run in reversed(self.runs()) if run.parent == run_id]

    @guarded
    def stop_requested(self, run_id: str) -> bool:
        """True if this run was asked to stop. Raises TakenError if another process took it over."""
        tags = self.client.get_run(run_id).data.tags
        if not is_mine(tags, self.owner):
            raise TakenError(f"run {run_id[:8]} was taken over by {host_of(tags)}; it continues there")
        return tags.get("mer.stop") == "1"

    def request_stop(self, run_id: str) -> None:
        """Ask a run to stop at its next step."""
        self.tag(run_id, {"mer.stop": "1"})

    @changing
    def delete(self, run_id: str) -> None:
        """Hide a run from all lists; see `mer.runs.deleted`."""
        self.client.delete_run(run_id)
        self.listing.forget(run_id)

    @changing
    def save_folder(self, run_id: str, name: str, write: Callable[[Path], None]) -> None:
        """Replace a folder of the run's artifacts; see `Artifacts.save_folder`."""
        self.artifacts.save_folder(run_id, name, write)

    @guarded
    def folder(self, run: Run | str, name: str, *, only: str = "") -> Path | None:
        """A folder of a run's artifacts as a local path, or None; see `Artifacts.folder`.

        With a `Run` in place of an id, its tags need not be requested from the server again.
        """
        run_id, tags = (run.id, run.tags) if isinstance(run, Run) else (run, None)
        return self.artifacts.folder(run_id, name, tags, only=only)

    @changing
    def send_state(self, run_id: str, path: Path, epoch: int) -> None:
        """Send the state of a run to the server; see `Artifacts.send_state`."""
        self.artifacts.send_state(run_id, path, epoch)

    @guarded
    def fetch_state(self, run_id: str, path: Path, epoch: int) -> bool:
        """Download a newer state of a run; see `Artifacts.fetch_state`. False without a server."""
        return self.shared and self.artifacts.fetch_state(run_id, path, epoch)

    @changing
    def drop_state(self, run_id: str) -> None:
        """Delete the state that `send_state` sent."""
        if self.shared:
            self.artifacts.drop_state(run_id)


def _taken(run: Run) -> TakenError:
    short, place = run.id[:8], f" on {run.host}" if run.host else ""
    return TakenError(f"run {short} was taken over by another process{place}; see: mer runs show {short}")


def _flattened(spec: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in spec.items():
        if isinstance(value, dict):
            yield from _flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)[:500]


@lru_cache(maxsize=4)
def _of_uri(uri: str) -> RunStore:
    return RunStore(*open_uri(uri))


def _of_home(root: Path) -> RunStore:
    """The store of a home. It is opened again if its database was replaced."""
    store = _opened(root)
    if store.place and not store.place.is_current():
        _opened.cache_clear()
        store = _opened(root)
    return store


@lru_cache(maxsize=4)
def _opened(root: Path) -> RunStore:
    return RunStore(*open_local(root))

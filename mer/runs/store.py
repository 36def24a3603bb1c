"""Runs, kept in MLflow, which else only `mer.runs.run` and what is below it know.

By default a SQLite database and artifacts under MER_HOME; `MLFLOW_TRACKING_URI` points to a server
instead, and `mlflow ui` works on either. Nothing here imports torch.
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
from mer.runs.connection import guarded, open_local, open_uri
from mer.runs.listing import Listing
from mer.runs.run import RESUMABLE, STATUS, TURN, Run, TakenError, host_of, is_mine, owner, to_run
from mer.runs.server import Server, is_away
from mer.utils.errors import RunError
from mer.utils.files import home
from mer.utils.versions import CURRENT

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["RunStore"]

BATCH_LIMIT = 1000  # metrics that MLflow takes in one call
PARAM_LIMIT = 100  # and settings


class RunStore:
    """All reading and writing of runs. Methods raise StorageError where the store cannot be used.

    Parameters
    ----------
    client, experiment, server
        What `mer.runs.connection` opens: MLflow's client, the experiment's id, the server if there is one.
    owner
        The owner of the runs that this process works on, as `run.owner` writes it; by default itself.
    patience
        Seconds for which a server that does not answer is asked again. Readers use 0: they are told at once.
    """

    def __init__(
        self,
        client: "MlflowClient",
        experiment: str,
        server: Server | None = None,
        *,
        owner: str = "",
        patience: float = 0.0,
    ) -> None:
        self.client, self.experiment, self.server = client, experiment, server
        self._owner, self.patience = owner, patience
        self.listing = Listing(self._search, self.active, self._whole)
        self.artifacts = Artifacts(client, shared=server is not None)

    @classmethod
    @guarded
    def open(cls) -> "RunStore":
        """The store that the environment names; made on first use. Raises StorageError."""
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        return _at(uri) if uri else _local(home())

    def for_worker(self, *, owner: str = "", patience: float = 0.0) -> "RunStore":
        """The same store for a process that works on runs.

        `RunStore.open` gives all callers in a process one object. A worker has an object of its own, so its
        owner and its patience do not change what other callers see.
        """
        return RunStore(
            self.client, self.experiment, self.server, owner=owner or self._owner, patience=patience
        )

    @property
    def owner(self) -> str:
        """The owner that runs started here are recorded with."""
        return self._owner or owner()

    @staticmethod
    def exists() -> bool:
        """True if there is a store to open without making one."""
        return bool(os.environ.get("MLFLOW_TRACKING_URI")) or (home() / "mlflow.db").exists()

    @staticmethod
    def version() -> int:
        """A number that changes whenever the store does, so that readers need not ask it in vain.

        With a server, whose changes cannot be seen from here, it changes once a second.
        """
        if os.environ.get("MLFLOW_TRACKING_URI"):
            return int(time.time())
        found = [path.stat() for path in home().glob("mlflow.db*")]
        return hash(tuple((stat.st_mtime_ns, stat.st_size) for stat in found))

    @property
    def shared(self) -> bool:
        """True if a server keeps the runs, so that other machines may work on them."""
        return self.server is not None

    def now(self) -> float:
        """The time by which signs of life are judged, in s since 1970: the server's, if there is one."""
        return self.server.now() if self.server else time.time()

    @guarded
    def create(self, name: str, spec: dict[str, Any], *, parent: str | None = None) -> str:
        """A new queued run; returns its id. It is interrupted if this process dies before one takes it on."""
        from mlflow.entities import Param

        tags = {"mer.spec": json.dumps(spec), "mer.format": str(CURRENT["run"]), "mlflow.runName": name}
        tags |= {"mer.maker": owner(), "mer.beat": self._beat()}
        if parent:
            tags["mlflow.parentRunId"] = parent
        run = self.client.create_run(self.experiment, tags=tags)
        self.client.update_run(run.info.run_id, status="SCHEDULED")
        params = [Param(key, value) for key, value in _flat(spec)]
        for start in range(0, len(params), PARAM_LIMIT):
            self.client.log_batch(run.info.run_id, params=params[start : start + PARAM_LIMIT])
        return run.info.run_id

    @guarded
    def start(self, run_id: str) -> None:
        """Mark as running in this process, or for whom it acts; others can tell if that one is gone."""
        tags = dict.fromkeys(("mer.stop", "mer.reason", "mer.stage"), "")
        self.tag(run_id, tags | {"mer.owner": self.owner, "mer.beat": self._beat()})
        self.client.update_run(run_id, status="RUNNING")

    @guarded
    def take(self, run: Run) -> None:
        """Take an unfinished run on again, as it was when `run` was read; raises RunError if another did.

        A setting of MLflow's is written once: of all who try, on whatever machine, the database lets one.
        """
        from mlflow.exceptions import MlflowException

        now = self.get(run.id)
        if now.status not in (*RESUMABLE, "queued"):  # its own process gave a sign of life again
            raise _taken(now)
        try:
            self.client.log_param(run.id, f"{TURN}{run.turn + 1}", f"{owner()} {secrets.token_hex(8)}")
        except MlflowException as error:
            if is_away(error):
                raise
            raise _taken(self.get(run.id)) from error

    def beat(self, run_id: str) -> None:
        """Give a sign of life of a run that this process works on."""
        self.tag(run_id, {"mer.beat": self._beat()})

    def _beat(self) -> str:
        return f"{self.now():.0f}"

    @guarded
    def enqueue(self, run_id: str) -> None:
        """Mark as waiting for a process to work on it, whatever it was before."""
        tags = dict.fromkeys(("mer.owner", "mer.stop", "mer.reason", "mer.stage"), "")
        self.tag(run_id, tags | {"mer.maker": owner(), "mer.beat": self._beat()})
        self.client.update_run(run_id, status="SCHEDULED")

    @guarded
    def finish(self, run_id: str, status: str, *, reason: str = "") -> None:
        """Mark as "finished", "failed" or "stopped"."""
        self.tag(run_id, {"mer.reason": reason[:4000]})
        word = next(key for key, value in STATUS.items() if value == status)
        self.client.set_terminated(run_id, status=word)

    @guarded
    def tag(self, run_id: str, tags: dict[str, str]) -> None:
        """Set tags."""
        from mlflow.entities import RunTag

        self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    @guarded
    def log(self, run_id: str, rows: list[tuple[int, dict[str, float]]]) -> None:
        """Log figures, each row at its step, in as few calls as MLflow allows."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(key, float(value), now, step) for step, row in rows for key, value in row.items()]
        for start in range(0, len(metrics), BATCH_LIMIT):
            self.client.log_batch(run_id, metrics=metrics[start : start + BATCH_LIMIT])

    @guarded
    def history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """All (step, value) of one metric, each step once: what a resumed run did again counts."""
        found = self.client.get_metric_history(run_id, metric)
        return sorted({m.step: m.value for m in sorted(found, key=lambda m: m.timestamp)}.items())

    def runs(self) -> list[Run]:
        """All runs, newest first."""
        return self.listing.runs() if self.shared else self._search("")

    def active(self) -> list[Run]:
        """Runs that are queued, running, stopping or interrupted, newest first."""
        found = [run for word in ("RUNNING", "SCHEDULED") for run in self._search(f"status = '{word}'")]
        return sorted(found, key=lambda run: -run.started)

    @guarded
    def _search(self, condition: str, most: int | None = None) -> list[Run]:
        from mlflow.entities import ViewType

        found, token = [], None
        while True:
            order = ["attributes.start_time DESC"]
            page = self.client.search_runs(
                [self.experiment], condition, ViewType.ACTIVE_ONLY, most or 500, order, token
            )
            found += [to_run(run, self.now) for run in page]
            token = page.token
            if not token or most:
                return found

    def get(self, name: str) -> Run:
        """The run whose id starts with `name`; raises RunError if there is none, or more than one."""
        matches = [self._whole(name)] if re.fullmatch("[0-9a-f]{32}", name) else self.runs()
        matches = [run for run in matches if run and name and run.id.startswith(name)]
        if len(matches) != 1:
            found = f"{len(matches)} runs match" if matches else "there is no such run"
            raise RunError(f"run {name!r}: {found}; 'mer runs list' shows them")
        return matches[0]

    @guarded
    def _whole(self, run_id: str) -> Run | None:
        """The run with this id, without a look at all others; None if it is none of ours."""
        from mlflow.exceptions import MlflowException

        try:
            found = self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        ours = found.info.experiment_id == self.experiment and found.info.lifecycle_stage == "active"
        return to_run(found, self.now) if ours else None

    def children(self, run_id: str) -> list[Run]:
        """The runs of a cross-validation, oldest first."""
        return [run for run in reversed(self.runs()) if run.parent == run_id]

    @guarded
    def stop_requested(self, run_id: str) -> bool:
        """True if someone asked this run to stop; raises TakenError if another process took it on."""
        tags = self.client.get_run(run_id).data.tags
        if not is_mine(tags, self.owner):
            raise TakenError(f"run {run_id[:8]} was taken on by {host_of(tags)}; it goes on there alone")
        return tags.get("mer.stop") == "1"

    def request_stop(self, run_id: str) -> None:
        """Ask a run to stop at its next step."""
        self.tag(run_id, {"mer.stop": "1"})

    @guarded
    def delete(self, run_id: str) -> None:
        """Hide a run from all listings (MLflow keeps it until `mlflow gc`)."""
        self.client.delete_run(run_id)
        self.listing.forget(run_id)

    @guarded
    def save_folder(self, run_id: str, name: str, write: Callable[[Path], None]) -> None:
        """Have `write` fill a folder of the run's artifacts, whole or not at all; replaces an older one."""
        self.artifacts.save_folder(run_id, name, write)

    @guarded
    def folder(self, run: Run | str, name: str, *, only: str = "") -> Path | None:
        """A folder of a run's artifacts as a local path, fetched if need be; None if there is none.

        Of a run that was just read no question is needed. With `only`, files of that name are enough.
        """
        run_id, tags = (run.id, run.tags) if isinstance(run, Run) else (run, None)
        return self.artifacts.folder(run_id, name, tags, only=only)

    @guarded
    def send_state(self, run_id: str, path: Path, epoch: int) -> None:
        """Keep the state after so many epochs where other machines can have it."""
        self.artifacts.send_state(run_id, path, epoch)

    @guarded
    def fetch_state(self, run_id: str, path: Path, epoch: int) -> bool:
        """Put a newer state than that of so many epochs at `path`, if another machine left one."""
        return self.shared and self.artifacts.fetch_state(run_id, path, epoch)

    @guarded
    def drop_state(self, run_id: str) -> None:
        """Forget the state that `send_state` kept."""
        if self.shared:
            self.artifacts.drop_state(run_id)


def _taken(run: Run) -> TakenError:
    short, place = run.id[:8], f" on {run.host}" if run.host else ""
    return TakenError(f"run {short} was taken on by another process{place}; see: mer runs show {short}")


def _flat(spec: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in spec.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)[:500]


@lru_cache(maxsize=4)
def _at(uri: str) -> RunStore:
    return RunStore(*open_uri(uri))


@lru_cache(maxsize=4)
def _local(root: Path) -> RunStore:
    return RunStore(*open_local(root))

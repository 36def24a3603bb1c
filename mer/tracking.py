"""Runs, kept in MLflow, which else only `mer.runs` and `mer.schema` know.

By default a SQLite database and artifacts under MER_HOME; `MLFLOW_TRACKING_URI` points to a server
instead, and `mlflow ui` works on either. Nothing here imports torch.
"""

import json
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import lru_cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from filelock import FileLock

from mer.errors import RunError, StorageError
from mer.files import atomic_path, home, leftovers, new_folder, writing
from mer.formats import CURRENT
from mer.runs import STATUS, Run, owner, to_run
from mer.schema import bring_up_to_date, quieten

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["RunStore"]

EXPERIMENT = "mer"
BATCH_LIMIT = 1000  # metrics that MLflow takes in one call
PARAM_LIMIT = 100  # and settings


def _guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    """Report what MLflow could not do as a StorageError with the remedy."""

    @wraps(method)
    def call(*arguments: Any, **keywords: Any) -> Any:
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # read when mlflow is imported
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            return method(*arguments, **keywords)
        except (MlflowException, SQLAlchemyError) as error:
            reason = str(error).splitlines()[0][:160]
            raise StorageError(
                f"the run store failed ({reason}); free some space, or check MER_HOME and MLFLOW_TRACKING_URI"
            ) from error

    return call


class RunStore:
    """All reading and writing of runs. Methods raise StorageError where the store cannot be used."""

    def __init__(self, client: "MlflowClient", experiment: str) -> None:
        self.client, self.experiment = client, experiment

    @classmethod
    @_guarded
    def open(cls) -> "RunStore":
        """The store that the environment names; made on first use. Raises StorageError."""
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        return _open(uri) if uri else _open_local(home())

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

    @_guarded
    def create(self, name: str, spec: dict[str, Any], *, parent: str | None = None) -> str:
        """A new queued run; returns its id. It is interrupted if this process dies before one takes it on."""
        from mlflow.entities import Param

        tags = {"mer.spec": json.dumps(spec), "mer.format": str(CURRENT["run"]), "mlflow.runName": name}
        tags["mer.maker"] = owner()
        if parent:
            tags["mlflow.parentRunId"] = parent
        run = self.client.create_run(self.experiment, tags=tags)
        self.client.update_run(run.info.run_id, status="SCHEDULED")
        params = [Param(key, value) for key, value in _flat(spec)]
        for start in range(0, len(params), PARAM_LIMIT):
            self.client.log_batch(run.info.run_id, params=params[start : start + PARAM_LIMIT])
        return run.info.run_id

    @_guarded
    def start(self, run_id: str, *, by: str | None = None) -> None:
        """Mark as running in this process, or that of the owner `by`; others can tell if it is gone."""
        self.tag(run_id, {"mer.owner": by or owner(), "mer.stop": "", "mer.reason": "", "mer.stage": ""})
        self.client.update_run(run_id, status="RUNNING")

    @_guarded
    def enqueue(self, run_id: str) -> None:
        """Mark as waiting for a process to work on it, whatever it was before."""
        tags = dict.fromkeys(("mer.owner", "mer.stop", "mer.reason", "mer.stage"), "")
        self.tag(run_id, tags | {"mer.maker": owner()})
        self.client.update_run(run_id, status="SCHEDULED")

    @_guarded
    def finish(self, run_id: str, status: str, *, reason: str = "") -> None:
        """Mark as "finished", "failed" or "stopped"."""
        self.tag(run_id, {"mer.reason": reason[:4000]})
        word = next(key for key, value in STATUS.items() if value == status)
        self.client.set_terminated(run_id, status=word)

    @_guarded
    def tag(self, run_id: str, tags: dict[str, str]) -> None:
        """Set tags."""
        from mlflow.entities import RunTag

        self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    @_guarded
    def log(self, run_id: str, rows: list[tuple[int, dict[str, float]]]) -> None:
        """Log figures, each row at its step, in as few calls as MLflow allows."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(key, float(value), now, step) for step, row in rows for key, value in row.items()]
        for start in range(0, len(metrics), BATCH_LIMIT):
            self.client.log_batch(run_id, metrics=metrics[start : start + BATCH_LIMIT])

    @_guarded
    def history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """All (step, value) of one metric, each step once: what a resumed run did again counts."""
        found = self.client.get_metric_history(run_id, metric)
        return sorted({m.step: m.value for m in sorted(found, key=lambda m: m.timestamp)}.items())

    def runs(self) -> list[Run]:
        """All runs, newest first."""
        return self._search("")

    def active(self) -> list[Run]:
        """Runs that are queued, running, stopping or interrupted, newest first."""
        found = [run for word in ("RUNNING", "SCHEDULED") for run in self._search(f"status = '{word}'")]
        return sorted(found, key=lambda run: -run.started)

    @_guarded
    def _search(self, condition: str) -> list[Run]:
        from mlflow.entities import ViewType

        found, token = [], None
        while True:
            page = self.client.search_runs(
                [self.experiment], condition, ViewType.ACTIVE_ONLY, 500, ["attributes.start_time DESC"], token
            )
            found += [to_run(run) for run in page]
            token = page.token
            if not token:
                return found

    def get(self, name: str) -> Run:
        """The run whose id starts with `name`; raises RunError if there is none, or more than one."""
        matches = [run for run in self.runs() if name and run.id.startswith(name)]
        if len(matches) != 1:
            found = f"{len(matches)} runs match" if matches else "there is no such run"
            raise RunError(f"run {name!r}: {found}; 'mer runs list' shows them")
        return matches[0]

    def children(self, run_id: str) -> list[Run]:
        """The runs of a cross-validation, oldest first."""
        return [run for run in reversed(self.runs()) if run.parent == run_id]

    @_guarded
    def stop_requested(self, run_id: str) -> bool:
        """True if someone asked this run to stop."""
        return self.client.get_run(run_id).data.tags.get("mer.stop") == "1"

    def request_stop(self, run_id: str) -> None:
        """Ask a run to stop at its next step."""
        self.tag(run_id, {"mer.stop": "1"})

    @_guarded
    def delete(self, run_id: str) -> None:
        """Hide a run from all listings (MLflow keeps it until `mlflow gc`)."""
        self.client.delete_run(run_id)

    @_guarded
    def save_folder(self, run_id: str, name: str, write: Callable[[Path], None]) -> None:
        """Have `write` fill a folder of the run's artifacts, whole or not at all; replaces an older one."""
        local = self._local(run_id)
        if local is None:
            with tempfile.TemporaryDirectory() as draft:
                write(Path(draft))
                self.client.log_artifacts(run_id, draft, name)
            return
        target = local / name
        for old in (target, *leftovers(target)):
            _discard(old)
        with new_folder(target) as draft:
            write(draft)

    @_guarded
    def folder(self, run_id: str, name: str) -> Path | None:
        """A folder of the run's artifacts as a local path, fetched if need be; None if there is none."""
        local = self._local(run_id)
        if local is not None:
            return local / name if (local / name).is_dir() else None
        if not self.client.list_artifacts(run_id, name):
            return None
        return Path(self.client.download_artifacts(run_id, name))

    def _local(self, run_id: str) -> Path | None:
        uri = urlparse(self.client.get_run(run_id).info.artifact_uri)
        return Path(unquote(uri.path)) if uri.scheme in ("", "file") else None


def _discard(folder: Path) -> None:
    import shutil

    if folder.exists():
        with writing(folder):
            shutil.rmtree(folder)


def _flat(spec: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in spec.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)[:500]


@lru_cache(maxsize=4)
@_guarded
def _open(uri: str) -> RunStore:
    client = _client(uri)
    found = client.get_experiment_by_name(EXPERIMENT)
    return RunStore(client, found.experiment_id if found else client.create_experiment(EXPERIMENT))


@lru_cache(maxsize=4)
@_guarded
def _open_local(root: Path) -> RunStore:
    """SQLite with a write-ahead log, made under a lock so that two processes never make it at once."""
    database = root / "mlflow.db"
    with _usable(root), FileLock(root / ".mlflow.lock"):
        if not database.exists():
            _make(database)
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        bring_up_to_date(database)
        return _store(_client(f"sqlite:///{database}?timeout=30"), root)


def _make(database: Path) -> None:
    """A database with our experiment. It takes its name when whole: MLflow cannot go on with half of one."""
    for old in leftovers(database):
        old.unlink()
    with atomic_path(database) as draft:
        _store(_client(f"sqlite:///{draft}"), database.parent)


def _store(client: "MlflowClient", root: Path) -> RunStore:
    found = client.get_experiment_by_name(EXPERIMENT)
    place = (root / "artifacts").as_uri()
    known = found.experiment_id if found else client.create_experiment(EXPERIMENT, artifact_location=place)
    return RunStore(client, known)


@contextmanager
def _usable(root: Path) -> Iterator[None]:
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        try:
            yield
        except sqlite3.Error as error:
            raise StorageError(
                f"cannot use {root / 'mlflow.db'}: {error}; free some space, "
                "or set MER_HOME to a writable folder"
            ) from error


def _client(uri: str) -> "MlflowClient":
    quieten()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)

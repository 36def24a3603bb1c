"""Connections to MLflow: a SQLite database under MER_HOME, or what MLFLOW_TRACKING_URI names; and what fails.

Only modules of this wing know MLflow.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from mer.runs.schema import bring_up_to_date, quieten
from mer.runs.server import Server, is_away, is_server, shown
from mer.utils.errors import StorageError
from mer.utils.files import atomic_path, leftovers, writing

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["guarded", "open_local", "open_uri"]

EXPERIMENT = "mer"
PAUSE = 2.0  # s between two tries of a run that waits for its server
Opened = tuple["MlflowClient", str, Server | None]  # and the id of our experiment


def guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    """Report what MLflow could not do as a StorageError with the remedy; wait for a server if asked to."""

    @wraps(method)
    def call(*arguments: Any, **keywords: Any) -> Any:
        quieten()
        from mlflow.exceptions import MlflowException
        from requests import RequestException
        from sqlalchemy.exc import SQLAlchemyError

        began, store = time.monotonic(), arguments[0]
        while True:
            try:
                return method(*arguments, **keywords)
            except (MlflowException, SQLAlchemyError, RequestException) as error:
                if is_away(error) and time.monotonic() - began < getattr(store, "patience", 0):
                    time.sleep(PAUSE)
                    continue
                if is_away(error) and hasattr(store, "patience"):
                    store.patience = 0  # what is still to be told is not waited for again
                raise _failed(error) from error

    return call


def _failed(error: Exception) -> StorageError:
    place = shown(os.environ.get("MLFLOW_TRACKING_URI", ""))
    if is_away(error):
        return StorageError(
            f"the MLflow server at {place} gives no answer; start it, or check MLFLOW_TRACKING_URI; "
            "a run that ends so goes on with: mer runs resume"
        )
    reason = str(error).splitlines()[0][:160]
    if "Invalid Host header" in str(error):
        return StorageError(
            f"the MLflow server at {place} does not answer to that name; start it with the name among its "
            "--allowed-hosts"
        )
    if "error code 401" in reason or "error code 403" in reason:
        return StorageError(
            f"the MLflow server at {place} lets nobody in without a name; set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD"
        )
    return StorageError(
        f"the run store failed ({reason}); free some space, or check MER_HOME and MLFLOW_TRACKING_URI"
    )


@guarded
def open_uri(uri: str) -> Opened:
    """A server, which is asked whether it is there, or a database of MLflow's. Raises StorageError."""
    client, server = _client(uri), Server(uri) if is_server(uri) else None
    if server:
        server.require()
    return client, _experiment(client), server


def _experiment(client: "MlflowClient", root: Path | None = None) -> str:
    """The id of our experiment, which another machine may make at the same time; artifacts lie in `root`."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(EXPERIMENT)
    if found:
        return found.experiment_id
    try:
        place = (root / "artifacts").as_uri() if root else None
        return client.create_experiment(EXPERIMENT, artifact_location=place)
    except MlflowException:
        found = client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            raise
        return found.experiment_id


@guarded
def open_local(root: Path) -> Opened:
    """SQLite with a write-ahead log, made under a lock so that two processes never make it at once."""
    database = root / "mlflow.db"
    with _usable(root), FileLock(root / ".mlflow.lock"):
        if not database.exists():
            _make(database)
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        bring_up_to_date(database)
        client = _client(f"sqlite:///{database}?timeout=30")
        return client, _experiment(client, root), None


def _make(database: Path) -> None:
    """A database with our experiment. It takes its name when whole: MLflow cannot go on with half of one."""
    for old in leftovers(database):
        old.unlink()
    with atomic_path(database) as draft:
        _experiment(_client(f"sqlite:///{draft}"), database.parent)


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

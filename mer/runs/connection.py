"""Connections to MLflow: a SQLite database under MER_HOME, or the server that MLFLOW_TRACKING_URI names.

Only modules of this wing import MLflow.
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

from mer.runs.moving import EXPERIMENT, Place, settle
from mer.runs.schema import bring_up_to_date, database_uri, quieten, require_current
from mer.runs.server import Server, is_away, is_server, shown, status_of
from mer.utils.errors import StorageError, reason_of
from mer.utils.files import atomic_path, leftovers, writing

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["changing", "guarded", "open_local", "open_uri"]

PAUSE = 2.0  # s between two tries of a run that waits for its server
Opened = tuple["MlflowClient", str, Server | None, Place | None]  # the string is the id of our experiment


def guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a function that uses MLflow: its failures become StorageError with the remedy.

    If a server does not answer, the call is repeated for as long as the store's `patience`. If the home of
    the store was moved or replaced, StorageError is raised instead of a call.
    """

    @wraps(method)
    def call(*arguments: Any, **keywords: Any) -> Any:
        """Call the method. The first argument is the store, or an address."""
        quieten()
        from mlflow.exceptions import MlflowException
        from requests import RequestException
        from sqlalchemy.exc import SQLAlchemyError

        began, store = time.monotonic(), arguments[0]
        if place := getattr(store, "place", None):
            place.require()
        while True:
            try:
                return method(*arguments, **keywords)
            except (MlflowException, SQLAlchemyError, RequestException) as error:
                if is_away(error) and time.monotonic() - began < getattr(store, "patience", 0):
                    time.sleep(PAUSE)
                    continue
                if is_away(error) and hasattr(store, "patience"):
                    store.patience = 0  # later calls do not wait again
                raise _storage_error(error) from error

    return call


def changing(method: Callable[..., Any]) -> Callable[..., Any]:
    """Like `guarded`, for a method that writes: raises StorageError if the home is read-only."""

    @wraps(method)
    def call(*arguments: Any, **keywords: Any) -> Any:
        """Call the method. The first argument is the store."""
        place = arguments[0].place
        if place and not place.writable:
            raise StorageError(
                f"{place.root} cannot be written; set MER_HOME to a home that can, such as a copy of it"
            )
        return guarded(method)(*arguments, **keywords)

    return call


def _storage_error(error: Exception) -> StorageError:
    """The error to raise for a failure of MLflow, with the remedy."""
    place = shown(os.environ.get("MLFLOW_TRACKING_URI", ""))
    if is_away(error):
        return StorageError(
            f"the MLflow server at {place} does not answer; start it, or check MLFLOW_TRACKING_URI; "
            "if a run ended for this reason, continue it with: mer runs resume"
        )
    if "Invalid Host header" in str(error):  # its status, 403, is also that of a visitor without permission
        return StorageError(
            f"the MLflow server at {place} does not answer to that name; start it with the name among its "
            "--allowed-hosts"
        )
    if status_of(error) in (401, 403):
        return StorageError(
            f"the MLflow server at {place} requires a user name and password; set MLFLOW_TRACKING_USERNAME "
            "and MLFLOW_TRACKING_PASSWORD"
        )
    return StorageError(
        f"the run store failed ({reason_of(error)}); free some space, "
        "or check MER_HOME and MLFLOW_TRACKING_URI"
    )


@guarded
def open_uri(uri: str) -> Opened:
    """Open a server or a database of MLflow. Raises StorageError, also if the server does not answer."""
    client, server = _client(uri), Server(uri) if is_server(uri) else None
    if server:
        server.require()
    return client, _experiment(client), server, None


def _experiment(client: "MlflowClient", root: Path | None = None) -> str:
    """The id of our experiment, created if needed; another machine may create it at the same time."""
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
    """Open the database of a home; it is created under a lock, so that only one process creates it.

    It uses a write-ahead log. A database that cannot be written is opened for reading.
    """
    database = root / "mlflow.db"
    with _storage_errors(root):
        if database.is_file() and not (_may_write(root) and _may_write(database)):
            return _open_read_only(root)
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".mlflow.lock"):
            if not database.exists() or not database.stat().st_size:
                _create_database(database)
            with closing(sqlite3.connect(database)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
            bring_up_to_date(database)
            settle(database)
            place = Place.of(root, writable=True)
            # The number keeps MLflow from reusing its engine for another database with the same path.
            client = _client(database_uri(database, timeout=30, number=place.mark[-1]))
            return client, _experiment(client, root), None, place


def _may_write(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _open_read_only(root: Path) -> Opened:
    """Open a database on a read-only mount, or of another user.

    If the write-ahead log exists, as while another process writes, SQLite can read such a database.
    Otherwise SQLite must be told that the database does not change. If it changes later, the place's mark
    changes too, and the database is opened again.
    """
    database, place = root / "mlflow.db", Place.of(root, writable=False)
    logged = database.with_name("mlflow.db-wal").exists()
    options = {"mode": "ro"} | ({} if logged else {"immutable": 1})
    require_current(database, **options)
    client = _client(database_uri(database, **options, number=abs(hash(place.mark))))
    return client, _experiment(client), None, place


def _create_database(database: Path) -> None:
    """Create a database with our experiment. It gets its name when it is complete."""
    for old in leftovers(database):
        old.unlink()
    with atomic_path(database) as draft:
        _experiment(_client(database_uri(draft)), database.parent)


@contextmanager
def _storage_errors(root: Path) -> Iterator[None]:
    """Turn failures of SQLite and of the disk into StorageError."""
    with writing(root):
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

"""Homes that were moved, copied, restored or mounted elsewhere.

`mer` finds everything in a home by fixed relative paths. MLflow stores absolute paths in its database; they
are updated when a home is opened at another place than before.
"""

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mer.utils.errors import StorageError

__all__ = ["EXPERIMENT", "Place", "home_of_run", "is_same_home", "run_folder", "settle"]

EXPERIMENT = "mer"
KEEPS = "artifacts"  # the folder of a home with the artifacts
# Where MLflow keeps absolute paths: table, column, and a condition for the rows
PLACES = (
    ("experiments", "artifact_location", ""),
    ("runs", "artifact_uri", ""),
    ("logged_models", "artifact_location", ""),
    ("model_versions", "source", ""),
    ("model_versions", "storage_location", ""),
    ("trace_tags", "value", " AND key = 'mlflow.artifactLocation'"),
)


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a database, with a mark that changes when another database is at that place.

    For a database that this process cannot write, the mark also changes when another process writes it, for
    example through another mount. SQLite does not notice that by itself.
    """

    root: Path
    writable: bool
    mark: tuple[int, ...]

    @classmethod
    def of(cls, root: Path, *, writable: bool) -> "Place":
        """The place as it is now; raises OSError if there is no database."""
        database = root / "mlflow.db"
        found = database.stat()
        mark: tuple[int, ...] = (found.st_dev, found.st_ino)
        if not writable:
            parts = [path.stat() for path in sorted(root.glob("mlflow.db*"))]
            mark += tuple(number for part in parts for number in (part.st_mtime_ns, part.st_size))
        return cls(root, writable, mark)

    def is_current(self) -> bool:
        """False if the database was moved or replaced or, if read-only here, written by another process."""
        try:
            return Place.of(self.root, writable=self.writable) == self
        except OSError:
            return False

    def require(self) -> None:
        """Raise StorageError if the home is not where it was when it was opened.

        Otherwise a process would write to the database at its new place, and files at the old one.
        """
        if self.writable and not self.is_current():
            raise StorageError(
                f"{self.root} was moved, removed or replaced while this process used it; set MER_HOME to "
                "where it is now and start again; continue a run that was interrupted with: mer runs resume"
            )


def run_folder(root: Path, run_id: str) -> Path:
    """The folder in a home that holds the folders of a run, as MLflow lays them out."""
    return root / KEEPS / run_id / "artifacts"


def home_of_run(location: str, run_id: str) -> str:
    """The home that contains a run's URI or absolute path; "" if it is not in a home."""
    return _home_of(location, f"{KEEPS}/{run_id}/artifacts")


def _home_of(location: str, below: str = KEEPS) -> str:
    """The part of a URI or absolute path before `below`; "" if it does not end in `below`."""
    parts = urlsplit(location)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        location = unquote(parts.path)
    elif parts.scheme:
        return ""
    end = f"/{below}"
    return location.removesuffix(end) if location.startswith("/") and location.endswith(end) else ""


def is_same_home(one: str | Path, other: str | Path) -> bool:
    """True if two paths lead to the same database, as through a link or a second mount."""
    try:
        return Path(one) == Path(other) or Path(one, "mlflow.db").samefile(Path(other, "mlflow.db"))
    except OSError:
        return False


def settle(database: Path) -> None:
    """Update the paths in MLflow's database if its home was elsewhere. The caller holds the lock.

    Only paths in the former home change. If the home can still be reached at its former place, for example
    by a link, nothing changes.
    """
    root = database.parent
    with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
        query = "SELECT artifact_location FROM experiments WHERE name = ?"
        row = connection.execute(query, (EXPERIMENT,)).fetchone()
        former = _home_of(row[0] or "") if row else ""
        if not former or is_same_home(former, root):
            return
        connection.execute("BEGIN IMMEDIATE")
        _note_home(connection, former, row[0].removesuffix(KEEPS))
        for old, new in _prefixes(row[0], former, root):
            _replace(connection, old, new)
            _replace_sources(connection, old, new)


def _prefixes(location: str, former: str, root: Path) -> list[tuple[str, str]]:
    """Pairs of old and new beginnings of paths in the home, as URIs and as plain paths."""
    own = f"{root.as_uri()}/"
    pairs = {location.removesuffix(KEEPS): own, f"{Path(former).as_uri()}/": own, f"{former}/": f"{root}/"}
    return list(pairs.items())


def _note_home(connection: sqlite3.Connection, former: str, prefix: str) -> None:
    """Record the home in which older runs were made, since their settings name paths in it."""
    connection.execute(
        "INSERT OR IGNORE INTO tags (key, value, run_uuid) SELECT 'mer.home', ?, run_uuid FROM runs "
        "WHERE substr(artifact_uri, 1, length(?)) = ? "
        "AND run_uuid IN (SELECT run_uuid FROM tags WHERE key = 'mer.spec')",
        (former, prefix, prefix),
    )


def _replace(connection: sqlite3.Connection, old: str, new: str) -> None:
    for table, column, which in PLACES:
        connection.execute(
            f"UPDATE {table} SET {column} = ? || substr({column}, length(?) + 1) "  # noqa: S608 - names of ours
            f"WHERE substr({column}, 1, length(?)) = ?{which}",
            (new, old, old, old),
        )


def _replace_sources(connection: sqlite3.Connection, old: str, new: str) -> None:
    """Update the paths of data sets that were logged with MLflow, which are in JSON."""
    for key, text in connection.execute("SELECT dataset_uuid, dataset_source FROM datasets").fetchall():
        source = _parsed(text)
        uri = source.get("uri")
        if isinstance(uri, str) and uri.startswith(old):
            changed = json.dumps(source | {"uri": new + uri.removeprefix(old)})
            update = "UPDATE datasets SET dataset_source = ? WHERE dataset_uuid = ?"
            connection.execute(update, (changed, key))


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}

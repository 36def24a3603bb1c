"""A home that was moved, copied, restored or mounted elsewhere: what names a place in it is read as of now.

`mer` itself finds all that lies in a home by rule. MLflow keeps absolute places in its database, which are
brought up to date when a home is opened where it was not made.
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
KEEPS = "artifacts"  # the folder of a home that has the artifacts
# Where MLflow keeps absolute places: table, column, and which rows
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
    """Where a database is, and a mark that changes when another takes its place.

    Of a database that cannot be written the mark also tells that someone else wrote it, as through another
    mount: SQLite does not look for that by itself.
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
        """True unless the database was moved, replaced, or, if it is read-only, written by another."""
        try:
            return Place.of(self.root, writable=self.writable) == self
        except OSError:
            return False

    def require(self) -> None:
        """Raise StorageError if the home is not where it was when it was opened.

        Whoever went on would write into a database at its new place, and files at the old one.
        """
        if self.writable and not self.is_current():
            raise StorageError(
                f"{self.root} was moved, removed or replaced while this process used it; set MER_HOME to "
                "where it is now and start again; a run that was at work goes on with: mer runs resume"
            )


def run_folder(root: Path, run_id: str) -> Path:
    """Where a home keeps the folders of a run: what MLflow makes of the home's `artifacts`."""
    return root / KEEPS / run_id / "artifacts"


def home_of_run(location: str, run_id: str) -> str:
    """The home in which a run's folders are by its URI or absolute path; "" if that is in no home."""
    return _home_of(location, f"{KEEPS}/{run_id}/artifacts")


def _home_of(location: str, below: str = KEEPS) -> str:
    """What precedes `below` in a URI or absolute path that ends in it; "" for any other."""
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
    """Bring the places in MLflow's database up to date if its home was elsewhere; the caller holds its lock.

    Only what lay below the former home changes. A home that is also still where it was made, as behind a
    link, stays as it is.
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
    """What places in the former home begin with, and what they begin with now: URIs, and plain paths."""
    own = f"{root.as_uri()}/"
    pairs = {location.removesuffix(KEEPS): own, f"{Path(former).as_uri()}/": own, f"{former}/": f"{root}/"}
    return list(pairs.items())


def _note_home(connection: sqlite3.Connection, former: str, prefix: str) -> None:
    """Note where runs were made that do not say so: their settings name places in that home."""
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
    """The same for data sets that were logged with MLflow, whose place is in JSON."""
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

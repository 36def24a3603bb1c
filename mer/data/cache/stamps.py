"""Hashes of files by path, so that unchanged files need not be read again.

As in Git's index, a file counts as unchanged if its size, inode, modification time and change time are the
same. A file that was read within two seconds of its last change is not noted. File times can be coarse, so a
second change soon after would not show ("racy Git problem", Git's technical documentation).

The database is only a cache. A damaged one is deleted; if it cannot be written, nothing is noted.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

__all__ = ["Stamp", "Stamps", "stamp"]

Stamp = tuple[int, int, int, int]
Result = TypeVar("Result")

COARSE = 2_000_000_000  # ns; file times may be this coarse
AT_ONCE = 500  # paths per query
TABLE = """CREATE TABLE IF NOT EXISTS stamps (
    path TEXT PRIMARY KEY, size INTEGER, modified INTEGER, changed INTEGER, inode INTEGER, hash TEXT
) WITHOUT ROWID"""


def stamp(path: Path) -> Stamp | None:
    """Size, modification and change time in ns, and inode of a file; None if it cannot be accessed."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


@dataclass(frozen=True, slots=True)
class Stamps:
    """An SQLite database of file hashes by path."""

    path: Path

    def known(self, paths: Sequence[Path]) -> list[str | None]:
        """The hash of each file, or None if it was never noted or has changed since."""
        names = [str(path.absolute()) for path in paths]
        rows = self._query(lambda database: _rows(database, names), create=False) or {}
        return [_hash_if_unchanged(path, rows.get(name)) for path, name in zip(paths, names, strict=True)]

    def note(self, found: Iterable[tuple[Path, Stamp | None, str]]) -> None:
        """Note (path, stamp, hash) of files; the stamp was taken before the file was read."""
        latest = time.time_ns() - COARSE
        rows = [
            (str(path.absolute()), *stamp, file_hash)
            for path, stamp, file_hash in found
            if stamp and file_hash and max(stamp[1], stamp[2]) < latest
        ]
        if rows:
            insert = "INSERT OR REPLACE INTO stamps VALUES (?, ?, ?, ?, ?, ?)"
            self._query(lambda database: database.executemany(insert, rows), create=True)

    def gone(self) -> set[str]:
        """Hashes for which none of the noted files exists any more."""
        query = "SELECT path, hash FROM stamps"
        rows = self._query(lambda database: database.execute(query).fetchall(), create=False) or []
        return {row[1] for row in rows} - {row[1] for row in rows if Path(row[0]).is_file()}

    def _query(self, work: Callable[[sqlite3.Connection], Result], *, create: bool) -> Result | None:
        """Call `work` on the database and return its result, or None if the database cannot be used."""
        try:
            if not create and not self.path.is_file():
                return None
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=30)) as database, database:
                database.execute("PRAGMA journal_mode=WAL")
                database.execute(TABLE)
                return work(database)
        except (sqlite3.OperationalError, OSError):  # disk full, read-only, or locked by another process
            return None
        except sqlite3.DatabaseError:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
            return None


def _rows(database: sqlite3.Connection, names: Sequence[str]) -> dict[str, tuple]:
    """The stamp and hash noted for each name."""
    rows = {}
    for start in range(0, len(names), AT_ONCE):
        part = names[start : start + AT_ONCE]
        query = f"SELECT * FROM stamps WHERE path IN ({','.join('?' * len(part))})"  # noqa: S608 - only placeholders
        rows |= {row[0]: row[1:] for row in database.execute(query, part)}
    return rows


def _hash_if_unchanged(path: Path, row: tuple | None) -> str | None:
    return row[-1] if row and stamp(path) == row[:-1] else None

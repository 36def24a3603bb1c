"""The run database's schema, which is MLflow's: an older one is brought up to date after a copy was made.

Left to itself, MLflow changes some older databases without a copy, and stops at others.
"""

import logging
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, urlencode

from mer.utils.errors import StorageError, reason_of

__all__ = ["SCHEMA", "bring_up_to_date", "database_uri", "quieten", "require_current"]

SCHEMA = "dc11669786a5"  # of the MLflow that requirements.txt pins


def database_uri(database: Path, **options: object) -> str:
    """SQLAlchemy's address of an SQLite database, whatever characters its path has.

    `options` are those of SQLite and of Python's `sqlite3.connect`; others are ignored. Quoted twice, since
    both SQLAlchemy and SQLite take it apart. It never makes a database, unless told to by `mode`.
    """
    words = urlencode({"mode": "rw", "uri": "true"} | options)
    # With the driver named, MLflow makes no folder named "file:" in the working directory.
    return f"sqlite+pysqlite:///file:{quote(quote(str(database)))}?{words}"


def require_current(database: Path, **options: object) -> None:
    """Raise StorageError unless a database that cannot be changed has the schema of the installed MLflow."""
    found = _schema_of(database, **options)
    if found != SCHEMA:
        raise StorageError(
            f"{database} is of another MLflow (schema {found}) and cannot be written here; open it once with "
            "this mer where it can be, or install the mer that made it"
        )


def bring_up_to_date(database: Path) -> None:
    """Bring an older database to the schema of the MLflow that is installed; the caller holds its lock.

    A copy stays beside it as mlflow.db.before-<schema>. Raises StorageError, with the database as it was, if
    a newer MLflow wrote it or the change fails.
    """
    found = _schema_of(database)
    if found in (None, SCHEMA):
        return
    known = _known()
    if found not in known:
        raise StorageError(
            f"{database} was made by a newer MLflow (schema {found}); install mer and its requirements anew, "
            "or set MER_HOME to another folder"
        )
    if found == known[0]:
        return
    copy = database.with_name(f"{database.name}.before-{found}")
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as sink:
        source.backup(sink)
    try:
        _upgrade(database)
    except Exception as error:  # a migration meets damage with whatever its next step raises
        _put_back(copy, database)
        raise StorageError(
            f"{database} is of an older MLflow and cannot be brought up to date ({reason_of(error)}); "
            "set MER_HOME to another folder, or move it away"
        ) from error


def _upgrade(database: Path) -> None:
    """Upgrade a database, as the command `mlflow db upgrade` does."""
    from mlflow.db import upgrade

    upgrade.main([database_uri(database)], standalone_mode=False)


def _put_back(copy: Path, database: Path) -> None:
    with closing(sqlite3.connect(copy)) as source, closing(sqlite3.connect(database)) as sink:
        source.backup(sink)


def quieten() -> None:
    """Silence MLflow and its libraries except for errors."""
    level = os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # read when mlflow is imported
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # where --json has one object
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # 7 are 4 minutes, for which no page waits
    logging.getLogger("mlflow").setLevel(level)  # and when it was already
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # of each try


def _schema_of(database: Path, **options: object) -> str | None:
    """The schema's name; None for a database that has none yet. `options` are SQLite's."""
    where = f"file:{quote(str(database))}?{urlencode(options)}"
    with closing(sqlite3.connect(where, uri=True)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(row[0]) if row else None


def _known() -> list[str]:
    """All schemas that the installed MLflow can bring up to date, the newest first."""
    quieten()
    import mlflow
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
    return [revision.revision for revision in scripts.walk_revisions()]

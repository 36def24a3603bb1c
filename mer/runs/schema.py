"""The schema of the run database, which MLflow defines. An older database is copied, then upgraded.

By itself, MLflow upgrades some older databases without a copy, and refuses others.
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

    `options` are those of SQLite and of Python's `sqlite3.connect`; others are ignored. The path is quoted
    twice, since both SQLAlchemy and SQLite decode it. Unless `mode` says so, no database is created.
    """
    words = urlencode({"mode": "rw", "uri": "true"} | options)
    # With the driver named, MLflow makes no folder named "file:" in the working directory.
    return f"sqlite+pysqlite:///file:{quote(quote(str(database)))}?{words}"


def require_current(database: Path, **options: object) -> None:
    """Raise StorageError unless a database that cannot be changed has the schema of the installed MLflow."""
    found = _schema_of(database, **options)
    if found != SCHEMA:
        raise StorageError(
            f"{database} was made by another MLflow (schema {found}) and is read-only here; open it once "
            "with this mer where it can be written, or install the mer that made it"
        )


def bring_up_to_date(database: Path) -> None:
    """Upgrade an older database to the schema of the installed MLflow. The caller holds its lock.

    A copy stays beside it as mlflow.db.before-<schema>. If a newer MLflow wrote the database or the upgrade
    fails, StorageError is raised and the database stays as it was.
    """
    found = _schema_of(database)
    if found in (None, SCHEMA):
        return
    known = _known_schemas()
    if found not in known:
        raise StorageError(
            f"{database} was made by a newer MLflow (schema {found}); install a newer mer with its "
            "requirements, or set MER_HOME to another folder"
        )
    if found == known[0]:
        return
    copy = database.with_name(f"{database.name}.before-{found}")
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as sink:
        source.backup(sink)
    try:
        _upgrade(database)
    except Exception as error:  # on a damaged database, a migration can raise any error
        _restore(copy, database)
        raise StorageError(
            f"{database} was made by an older MLflow and cannot be upgraded ({reason_of(error)}); "
            "set MER_HOME to another folder, or move it away"
        ) from error


def _upgrade(database: Path) -> None:
    """Upgrade a database, as the command `mlflow db upgrade` does."""
    from mlflow.db import upgrade

    upgrade.main([database_uri(database)], standalone_mode=False)


def _restore(copy: Path, database: Path) -> None:
    with closing(sqlite3.connect(copy)) as source, closing(sqlite3.connect(database)) as sink:
        source.backup(sink)


def quieten() -> None:
    """Silence MLflow and its libraries except for errors."""
    level = os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # read when mlflow is imported
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # where --json has one object
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault(
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2"
    )  # MLflow's 7 take 4 minutes, too long for a page
    _hear("mlflow", level)  # if it was imported before
    _hear("alembic", "WARNING")
    _hear("urllib3.connectionpool", "ERROR")  # it would warn of each retry


def _hear(name: str, level: str) -> None:
    """Set the level of a logger, unless it has it: setting one clears the caches of all loggers."""
    logger = logging.getLogger(name)
    if logging.getLevelName(logger.level) != level:
        logger.setLevel(level)


def _schema_of(database: Path, **options: object) -> str | None:
    """The schema's name; None for a database that has none yet. `options` are SQLite's."""
    where = f"file:{quote(str(database))}?{urlencode(options)}"
    with closing(sqlite3.connect(where, uri=True)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(row[0]) if row else None


def _known_schemas() -> list[str]:
    """All schemas that the installed MLflow can upgrade, the newest first."""
    quieten()
    import mlflow
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
    return [revision.revision for revision in scripts.walk_revisions()]

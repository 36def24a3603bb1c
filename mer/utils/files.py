"""The home folder, and atomic writes: after a crash a file is either the old or the new one."""

import json
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from glob import escape
from hashlib import file_digest
from pathlib import Path, PurePath
from typing import Any, TypeVar

from mer.utils.errors import ConfigError, MerError, StorageError

__all__ = [
    "as_path", "atomic_path", "hash_of_file", "home", "leftovers", "moved_path", "new_folder", "read_kept",
    "write_atomic", "writing",
]  # fmt: skip

Kept = TypeVar("Kept")


def home() -> Path:
    """Folder of runs, feature store and database: `MER_HOME`, or `./.mer`. It is not created here."""
    return Path(os.environ.get("MER_HOME") or ".mer").absolute()


def as_path(place: str | os.PathLike, name: str = "path") -> Path:
    """Convert `str` or `os.PathLike` to Path. Raises ConfigError for anything else."""
    try:
        return Path(os.fsdecode(os.fspath(place)))
    except TypeError:
        kind = type(place).__name__
        raise ConfigError(f"{name}: a {kind} is not a path; give a str or a pathlib.Path") from None


def moved_path(path: str, former: str, own: Path, *, shared: bool = False) -> str:
    """Find a path that was recorded when the home was in another folder.

    Tries the same place in the present home, then the recorded path, and returns the first that exists. If
    neither does, returns the place in the present home. A path outside the former home is returned unchanged.

    Parameters
    ----------
    path
        Path as it was recorded.
    former
        Home at that time; empty if unknown.
    own
        Present home.
    shared
        True if other homes use the same runs. The recorded path is then tried first.
    """
    if not former or former == str(own) or not PurePath(path).is_relative_to(former):
        return path
    places = [str(own / PurePath(path).relative_to(former)), path]
    return next((place for place in (places[::-1] if shared else places) if os.path.exists(place)), places[0])  # noqa: PTH110 - Path's may raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError, as on a full or read-only disk, into a StorageError with the remedy."""
    try:
        yield
    except MerError:
        raise
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}; "
            "free some space or choose a writable place (MER_HOME, --out)"
        ) from error


@contextmanager
def atomic_path(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary file beside `path`, renamed to `path` on success and removed on failure.

    If not `durable`, the file may be lost or incomplete after a crash of the machine, but writing takes a
    tenth of the time. Use that only for files that have a checksum and can be made again.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        temporary.touch(exist_ok=False)  # permissions follow the umask; mkstemp's do not
        try:
            yield temporary
            if durable:
                _sync(temporary)
            temporary.replace(path)
            if durable:
                _sync(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_atomic(path: Path, content: bytes | str, *, durable: bool = True) -> None:
    """Write a small file atomically.

    Parameters
    ----------
    path
        The file. Its folder is made if needed.
    content
        Bytes, or text to write in UTF-8.
    durable
        See `atomic_path`.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    with atomic_path(path, durable=durable) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def read_kept(path: Path, use: Callable[[Any], Kept | None]) -> Kept | None:
    """Read a JSON file of a cache. A damaged file counts as missing, since it can be made again.

    Parameters
    ----------
    path
        The file, in UTF-8.
    use
        Checks the content and returns what is wanted of it; None if it does not fit.

    Returns
    -------
    object or None
        What `use` returns. None if the file is missing, unreadable or damaged, or if `use` raises one of the
        errors that content of another form causes: ValueError, KeyError, IndexError, TypeError or
        AttributeError.
    """
    try:
        return use(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def hash_of_file(path: Path) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits. Raises OSError if it cannot be read."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def leftovers(path: Path) -> list[Path]:
    """Temporary files and folders beside `path`, left by processes that were killed while writing it.

    A file that is being written looks the same, so call this only where no other process writes `path`.
    """
    return list(path.parent.glob(f".{escape(path.name)}.*"))


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside `path`, renamed to `path` on success and removed on failure.

    Raises StorageError if `path` exists and is not an empty folder.
    """
    path = path.absolute()
    with writing(path):
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise StorageError(f"{path} exists and is not empty; choose another --out or remove it first")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=path.parent, prefix=f".{path.name}.", ignore_cleanup_errors=True
        ) as name:
            built = Path(name) / path.name
            built.mkdir()
            yield built
            for part in (*built.rglob("*"), built):
                _sync(part)
            built.replace(path)
            _sync(path.parent)


def _sync(path: Path) -> None:
    """Flush a file or folder to disk, so that its content is there before it is renamed."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

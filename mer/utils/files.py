"""Where things are kept, and writing that leaves either the old file or the new one, never half."""

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

from mer.utils.errors import MerError, StorageError

__all__ = ["atomic_path", "home", "leftovers", "new_folder", "write_atomic", "writing"]


def home() -> Path:
    """Folder of runs, feature store and database: `MER_HOME`, default `./.mer`. Not created here."""
    return Path(os.environ.get("MER_HOME") or ".mer").absolute()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the OSError of a full, read-only or forbidden place into a StorageError with the remedy."""
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
    """A temporary name beside `path` to write to; renamed to `path` on success, removed on failure.

    What is not `durable` may be lost or halved if the machine itself stops: for what carries a checksum and
    can be made again, in a tenth of the time.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        temporary.touch(exist_ok=False)  # readable as the umask says, unlike what mkstemp makes
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
    """Write a small file in one step that a crash cannot halve."""
    with atomic_path(path, durable=durable) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def leftovers(path: Path) -> list[Path]:
    """What processes that were killed while writing `path` left beside it, files or folders.

    Only whoever is alone in writing `path` can tell these from what is being written now.
    """
    return list(path.parent.glob(f".{escape(path.name)}.*"))


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, renamed to `path` on success, removed on failure.

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
    """Have the kernel put a file or folder on disk, so that a rename never precedes its content."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

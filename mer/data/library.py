"""The data sets that this home knows, so that they can be offered by name.

    MER_HOME/library.json                 one entry a data set, newest first, and the format
    MER_HOME/data/<source>/<name>         clips that were made, fetched or uploaded here
    MER_HOME/datasets/<hash>/<name>       unpacked zips

The library only points to data: forgetting an entry removes no file. Nothing here imports torch.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import blake2b
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from filelock import FileLock

from mer.data.clips import AUDIO_SUFFIXES
from mer.data.folders import read_tree
from mer.data.kaggle import KAGGLE_NAMES, fetch
from mer.data.load import load_dataset
from mer.data.zips import unpack_zip
from mer.utils.errors import DataError, StorageError
from mer.utils.files import home, new_folder, write_atomic, writing
from mer.utils.text import safe_name
from mer.utils.versions import CURRENT, upgraded

__all__ = [
    "Entry",
    "add",
    "add_clips",
    "add_demo",
    "add_kaggle",
    "add_zip",
    "demo_folder",
    "find",
    "forget",
    "known",
]

SOURCES = ("demo", "folder", "upload", "kaggle")


@dataclass(frozen=True, slots=True)
class Entry:
    """One data set: where it lies (absolute `path`), which columns to read, and where it came from.

    `source` is "demo", "folder", "upload" or "kaggle"; `synthetic` is what the data set says of itself.
    """

    name: str
    path: str
    label_column: str = "label"
    song_column: str = "song"
    source: str = "folder"
    synthetic: bool = False

    @property
    def exists(self) -> bool:
        """True while its folder or file is still there."""
        return Path(self.path).exists()

    @property
    def key(self) -> str:
        """12 hexadecimal digits that stay the same for the same path and columns, for use in URLs."""
        text = json.dumps([self.path, self.label_column, self.song_column])
        return blake2b(text.encode(), digest_size=6).hexdigest()


def known() -> list[Entry]:
    """All entries, newest first. A damaged library counts as empty and is kept as library.json.damaged."""
    try:
        return _parse()
    except ValueError:
        with _lock("library"):
            return _read()


def find(key: str) -> Entry:
    """The entry with this `key`; raises DataError if there is none."""
    for entry in known():
        if entry.key == key:
            return entry
    raise DataError(f"no data set {key!r} in this library; choose one of the list, or add it again")


def add(
    path: Path | str, *, label_column: str = "label", song_column: str = "song", source: str = "folder"
) -> Entry:
    """Add a folder, zip or CSV that is there already; one known with these columns stays as it is.

    Raises DataError, with the message of `load_dataset`, for what is no data set.
    """
    return _add(Path(path).absolute(), source, label_column=label_column, song_column=song_column)


def forget(key: str) -> None:
    """Remove the entry if there is one; its files stay."""
    with _lock("library"):
        _write([entry for entry in _read() if entry.key != key])


def add_demo(
    clips_per_class: int = 40,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    *,
    workers: int | None = 1,
) -> Entry:
    """Generate the synthetic corpus of 5 classes, unless these numbers have been asked for before.

    `progress` is called with (clips written, clips in all). One worker composes in this process, as a
    page needs; None takes one a core. Raises DataError for numbers out of range, and StorageError.
    """
    from mer.data.demo import write_demo  # imports scipy

    folder = demo_folder(clips_per_class, seed)
    with _lock("demo"):
        if not folder.is_dir():
            write_demo(folder, clips_per_class=clips_per_class, seed=seed, workers=workers, progress=progress)
    return _add(folder, "demo", name=folder.name)


def demo_folder(clips_per_class: int, seed: int) -> Path:
    """Where the demo corpus of these numbers is kept, made or not."""
    return home() / "data" / "demo" / f"demo-{clips_per_class:d}-seed-{seed:d}"


def add_kaggle(name: str) -> Entry:
    """Download a data set of `KAGGLE_NAMES`, unless it is here.

    Raises DataError for another name, or, where Kaggle cannot be reached, with the way to do it by hand.
    """
    folder = home() / "data" / "kaggle" / (safe_name(name) or "unnamed")
    with _lock("kaggle"):
        if name not in KAGGLE_NAMES or not folder.is_dir():
            fetch(name, folder)
    return _add(folder, "kaggle", name=name)


def add_zip(name: str, file: BinaryIO) -> Entry:
    """Unpack an uploaded zip, read from its start; `name` becomes the data set's.

    Raises DataError for a damaged or oversized zip, one that points outside, or one that is no data set.
    """
    name = safe_name(name.removesuffix(".zip"))
    if not name:
        raise DataError("the upload has no name; give it one")
    uploads = home() / "uploads"
    with writing(uploads):
        uploads.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=uploads) as folder:  # its own: uploads may share a name
            copy = Path(folder) / f"{name}.zip"
            file.seek(0)
            with copy.open("wb") as sink:
                shutil.copyfileobj(file, sink)
            unpacked = unpack_zip(copy)
    return _add(unpacked, "upload", name=name)


def add_clips(name: str, clips: Sequence[tuple[str, str, bytes]]) -> Entry:
    """Keep uploaded clips, each (class, file name, content), as a folder per class.

    Names lose what no file name may have; a file name that comes twice in a class gets a number. A data
    set name that is taken gets a number too, so nothing is ever replaced. Nothing is decoded: the check
    of the data set does that. Raises DataError for no clips, a name with nothing left of it, or a file
    whose suffix is not audio's.
    """
    name, placed = safe_name(name), _place(clips)
    if not name or not placed:
        raise DataError("the upload has no name; give it one" if placed else "no clips; choose some files")
    with _lock("upload"):
        folder = _free(home() / "data" / "upload" / name)
        with new_folder(folder) as built:
            for path, content in placed.items():
                out = built / path
                out.parent.mkdir(exist_ok=True)
                out.write_bytes(content)
            read_tree(built)
    return _add(folder, "upload", name=folder.name)


def _place(clips: Sequence[tuple[str, str, bytes]]) -> dict[str, bytes]:
    """Relative path <class>/<file> -> content, each path once even where capitals do not count."""
    placed: dict[str, bytes] = {}
    taken = set()
    for label, file, content in clips:
        folder, plain = safe_name(label), safe_name(file, keep_suffix=True)
        path = PurePosixPath(plain)
        if not folder:
            raise DataError(f"{file!r} has the class {label!r}; give each clip the name of a class")
        if path.suffix.lower() not in AUDIO_SUFFIXES:
            raise DataError(f"{file!r} is not audio by its name; use {', '.join(sorted(AUDIO_SUFFIXES))}")
        for number in count(2):
            if (out := f"{folder}/{plain}").casefold() not in taken:
                break
            plain = f"{path.stem} ({number}){path.suffix}"
        taken.add(out.casefold())
        placed[out] = content
    return placed


def _free(path: Path) -> Path:
    """`path`, or the first of "path 2", "path 3", ... that does not exist."""
    names = (path.with_name(f"{path.name} {number}") for number in count(2))
    return path if not path.exists() else next(other for other in names if not other.exists())


def _add(path: Path, source: str, *, name: str | None = None, **columns: str) -> Entry:
    data = load_dataset(path, **columns)
    entry = Entry(name or data.name, str(path), **columns, source=source, synthetic=data.synthetic)
    with _lock("library"):
        entries = _read()
        for other in entries:
            if other.key == entry.key:
                return other
        _write([entry, *entries])
    return entry


@contextmanager
def _lock(name: str) -> Iterator[None]:
    """Only one process or thread at a time does what is done under this name."""
    place = home() / f".{name}.lock"
    with writing(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place):
            yield


def _file() -> Path:
    return home() / "library.json"


def _parse() -> list[Entry]:
    """The entries on disk; raises ValueError if the file is damaged, StorageError if it is not readable."""
    try:
        rows = json.loads(_file().read_text("utf-8"))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"cannot read {_file()}: {error.strerror}; check its permissions") from error
    except RecursionError as error:
        raise ValueError(f"{_file()} is nested too deep") from error
    number = rows.get("format") if isinstance(rows, dict) else None
    found = upgraded("library", rows, number, where=str(_file()), error=StorageError)
    if not isinstance(found, dict) or not isinstance(found.get("entries"), list):
        raise ValueError(f"{_file()} holds no list")
    return [_entry(row) for row in found["entries"]]


def _entry(row: Any) -> Entry:
    """One row as an entry; raises ValueError if anything in it is not as written here."""
    try:
        entry = Entry(**row)
    except TypeError as error:
        raise ValueError(str(error)) from error
    texts = (entry.name, entry.path, entry.label_column, entry.song_column)
    if not all(isinstance(text, str) for text in texts) or type(entry.synthetic) is not bool:
        raise ValueError(f"{row!r} is no entry")
    if entry.source not in SOURCES:
        raise ValueError(f"{entry.source!r} is no source")
    return entry


def _read() -> list[Entry]:
    """The entries, under the lock; a damaged file is put aside, so that nothing in it is lost."""
    try:
        return _parse()
    except ValueError:
        _file().replace(_file().with_name("library.json.damaged"))
        return []


def _write(entries: list[Entry]) -> None:
    rows = [asdict(entry) for entry in entries]
    write_atomic(_file(), json.dumps({"format": CURRENT["library"], "entries": rows}, indent=1))

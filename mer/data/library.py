"""The library: the data sets known to this MER_HOME, so that pages can offer them by name.

    MER_HOME/library.json                 the format, the home, and one entry per data set, newest first
    MER_HOME/data/<source>/<name>         clips that were generated, downloaded or uploaded here
    MER_HOME/datasets/<hash>/<name>       unpacked zips

The library only points to data: forgetting an entry deletes no file. Paths are absolute. The file also
records the home that it was written in, so that paths inside the home stay valid when the home is moved.
This module does not import torch.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from filelock import FileLock

from mer.audio.formats import AUDIO_NAMES, AUDIO_SUFFIXES
from mer.data.clips import is_sharded
from mer.data.folders import read_tree
from mer.data.kaggle import KAGGLE_NAMES, fetch
from mer.data.load import load_dataset, reading
from mer.data.song_names import AUTO
from mer.data.zips import unpack_zip
from mer.utils.errors import DataError, MerError, StorageError
from mer.utils.files import home, moved_path, new_folder, write_atomic, writing
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
    "note",
]

SOURCES = ("demo", "folder", "upload", "kaggle")


@dataclass(frozen=True, slots=True)
class Entry:
    """One data set of the library.

    Parameters
    ----------
    name
        Its name in lists.
    path
        Absolute path of its folder or file.
    label_column, song_column
        Columns of the manifest to read.
    song_pattern, drop_conflicts
        See `mer.data.load.load_dataset` and `mer.data.check.check`.
    source
        "demo", "folder", "upload" or "kaggle".
    synthetic
        True if the data set says that its clips were generated.
    """

    name: str
    path: str
    label_column: str = "label"
    song_column: str = "song"
    source: str = "folder"
    synthetic: bool = False
    song_pattern: str = AUTO
    drop_conflicts: bool = False

    @property
    def reading(self) -> dict[str, str]:
        """The keyword arguments of `load_dataset` for this data set."""
        return reading(self)

    @property
    def exists(self) -> bool:
        """True if its folder or file still exists and can be found by this process."""
        try:
            return Path(self.path).exists()
        except OSError:  # a folder above it cannot be read
            return False

    @property
    def key(self) -> str:
        """12 hexadecimal digits for use in URLs. The same path and ways of reading give the same key."""
        parts = [self.path, self.label_column, self.song_column]
        parts += [self.song_pattern] if self.song_pattern != AUTO else []
        parts += [True] if self.drop_conflicts else []
        text = json.dumps(parts)
        return blake2b(text.encode(), digest_size=6).hexdigest()


def known() -> list[Entry]:
    """All entries, newest first. A damaged library counts as empty and is kept as library.json.damaged."""
    try:
        return _parse()
    except ValueError:
        with _lock("library"):
            return _read()


def find(key: str) -> Entry:
    """The entry with this `key`. Raises DataError if there is none."""
    for entry in known():
        if entry.key == key:
            return entry
    raise DataError(f"no data set {key!r} in this library; choose one from the list, or add it again")


def add(
    path: Path | str,
    *,
    label_column: str = "label",
    song_column: str = "song",
    song_pattern: str = AUTO,
    drop_conflicts: bool = False,
    source: str = "folder",
) -> Entry:
    """Add an existing folder, zip or CSV file. If it is known with the same columns, nothing changes.

    Parameters
    ----------
    path
        The folder or file.
    label_column, song_column
        Columns of the manifest; see `mer.data.load.load_dataset`.
    song_pattern
        Pattern of file names that names songs; see `mer.data.load.load_dataset`.
    drop_conflicts
        Whether clips with the same audio in two classes are left out, not refused.
    source
        Where it comes from: "demo", "folder", "upload" or "kaggle".

    Raises
    ------
    DataError
        If `path` is not a data set.
    """
    reading = {"label_column": label_column, "song_column": song_column, "song_pattern": song_pattern}
    return _add(Path(path).absolute(), source, drop_conflicts=drop_conflicts, **reading)


def note(path: Path | str, *, drop_conflicts: bool = False, **reading: str) -> None:
    """Add a data set that a run is made on, unless it is known or sharded.

    A library that cannot be written is no reason to refuse the run; the data set is then not added.

    Parameters
    ----------
    path
        Its folder or file.
    drop_conflicts, **reading
        How the run reads it; see `add`.
    """
    path = Path(path).absolute()
    with suppress(MerError):
        entry = Entry(path.name, str(path), **reading, drop_conflicts=drop_conflicts)
        if not is_sharded(path) and entry.key not in {other.key for other in known()}:
            add(path, drop_conflicts=drop_conflicts, **reading)


def forget(key: str) -> None:
    """Remove the entry with this key, if there is one. Its files stay."""
    with _lock("library"):
        _write([entry for entry in _read() if entry.key != key])


def add_demo(
    clips_per_class: int = 40,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    *,
    workers: int | None = 1,
) -> Entry:
    """Generate the synthetic corpus of 5 classes, unless it exists already, and add it.

    Parameters
    ----------
    clips_per_class
        Number of clips in each class, at least 2.
    seed
        Seed of the generator, at least 0.
    progress
        Called with (clips written, all clips).
    workers
        1 generates in this process, as a page must; None uses one worker per core.

    Raises
    ------
    DataError
        If a number is out of range.
    StorageError
        If the corpus cannot be written.
    """
    from mer.data.demo import write_demo  # imports scipy

    folder = demo_folder(clips_per_class, seed)
    with _lock("demo"):
        if not folder.is_dir():
            write_demo(folder, clips_per_class=clips_per_class, seed=seed, workers=workers, progress=progress)
    return _add(folder, "demo", name=folder.name)


def demo_folder(clips_per_class: int, seed: int) -> Path:
    """The folder of the demo corpus with these numbers, whether it exists or not."""
    return home() / "data" / "demo" / f"demo-{clips_per_class:d}-seed-{seed:d}"


def add_kaggle(name: str) -> Entry:
    """Download a data set of `KAGGLE_NAMES`, unless it was downloaded before, and add it.

    Raises DataError if the name is unknown or the download fails; the message then says how to do it by hand.
    """
    folder = home() / "data" / "kaggle" / (safe_name(name) or "unnamed")
    with _lock("kaggle"):
        if name not in KAGGLE_NAMES or not folder.is_dir():
            fetch(name, folder)
    return _add(folder, "kaggle", name=name)


def add_zip(name: str, file: BinaryIO) -> Entry:
    """Unpack an uploaded zip and add it as the data set `name`. The file is read from its start.

    Raises DataError if the zip is damaged, too large, points outside itself or is not a data set.
    """
    name = safe_name(name.removesuffix(".zip"))
    if not name:
        raise DataError("the upload has no name; give it one")
    uploads = home() / "uploads"
    with writing(uploads):
        uploads.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=uploads) as folder:  # two uploads may have the same name
            copy = Path(folder) / f"{name}.zip"
            file.seek(0)
            with copy.open("wb") as sink:
                shutil.copyfileobj(file, sink)
            unpacked = unpack_zip(copy)
    return _add(unpacked, "upload", name=name)


def add_clips(name: str, clips: Sequence[tuple[str, str, bytes]]) -> Entry:
    """Store uploaded clips in one folder per class and add them as a data set.

    Nothing is overwritten: a file or a data set whose name is already used gets a number. Nothing is decoded
    here; `mer.data.check.check` does that.

    Parameters
    ----------
    name
        Name of the data set. Characters that file names cannot hold are removed or replaced.
    clips
        (class, file name, content) of each clip.

    Raises
    ------
    DataError
        If there are no clips, a name is empty after cleaning, or a file does not have an audio suffix.
    """
    name, placed = safe_name(name), _place(clips)
    if not name or not placed:
        raise DataError("the upload has no name; give it one" if placed else "no clips; choose some files")
    with _lock("upload"):
        folder = _unused(home() / "data" / "upload" / name)
        with new_folder(folder) as built:
            for path, content in placed.items():
                out = built / path
                out.parent.mkdir(exist_ok=True)
                out.write_bytes(content)
            read_tree(built)
    return _add(folder, "upload", name=folder.name)


def _place(clips: Sequence[tuple[str, str, bytes]]) -> dict[str, bytes]:
    """Map <class>/<file> to content. No two paths differ only in upper and lower case."""
    placed: dict[str, bytes] = {}
    taken = set()
    for label, file, content in clips:
        folder, plain = safe_name(label), safe_name(file, keep_suffix=True)
        path = PurePosixPath(plain)
        if not folder:
            raise DataError(f"{file!r} has the class {label!r}; give each clip the name of a class")
        if path.suffix.lower() not in AUDIO_SUFFIXES:
            raise DataError(f"{file!r} is not audio by its name; use {AUDIO_NAMES}")
        for number in count(2):
            if (out := f"{folder}/{plain}").casefold() not in taken:
                break
            plain = f"{path.stem} ({number}){path.suffix}"
        taken.add(out.casefold())
        placed[out] = content
    return placed


def _unused(path: Path) -> Path:
    """`path`, or the first of "path 2", "path 3", ... that does not exist."""
    names = (path.with_name(f"{path.name} {number}") for number in count(2))
    return path if not path.exists() else next(other for other in names if not other.exists())


def _add(
    path: Path, source: str, *, name: str | None = None, drop_conflicts: bool = False, **reading: str
) -> Entry:
    """Check that `path` is a data set and add it, unless it is known. Returns its entry."""
    data = load_dataset(path, **reading)
    entry = Entry(
        name or data.name, str(path), **reading, source=source, synthetic=data.synthetic,
        drop_conflicts=drop_conflicts,
    )  # fmt: skip
    with _lock("library"):
        entries = _read()
        for other in entries:
            if other.key == entry.key:
                return other
        _write([entry, *entries])
    return entry


@contextmanager
def _lock(name: str) -> Iterator[None]:
    """Lock `name` of this home against other processes and threads."""
    place = home() / f".{name}.lock"
    with writing(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place):
            yield


def _file() -> Path:
    return home() / "library.json"


def _parse() -> list[Entry]:
    """The entries on disk. Raises ValueError if the file is damaged, StorageError if it is not readable."""
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
        raise ValueError(f"{_file()} does not hold a list")
    entries = [_entry(row) for row in found["entries"]]
    former = found.get("home") or _former_home(entries)
    if not isinstance(former, str):
        raise ValueError(f"{former!r} is not a home")
    return [replace(entry, path=moved_path(entry.path, former, home())) for entry in entries]


def _former_home(entries: list[Entry]) -> str:
    """The home of a library that does not record it, derived from the paths of its clips; "" if unknown."""
    paths = (Path(entry.path) for entry in entries if entry.source != "folder")
    return next((str(path.parents[2]) for path in paths if len(path.parents) > 3), "")


def _entry(row: Any) -> Entry:
    """One row as an entry. Raises ValueError if it is not valid."""
    try:
        entry = Entry(**row)
    except TypeError as error:
        raise ValueError(str(error)) from error
    texts = (entry.name, entry.path, entry.label_column, entry.song_column, entry.song_pattern)
    switches = (entry.synthetic, entry.drop_conflicts)
    if not all(isinstance(one, str) for one in texts) or not all(type(one) is bool for one in switches):
        raise ValueError(f"{row!r} is not an entry")
    if entry.source not in SOURCES:
        raise ValueError(f"{entry.source!r} is not a source")
    return entry


def _read() -> list[Entry]:
    """The entries; call it under the lock. A damaged file is renamed, so that nothing in it is lost."""
    try:
        return _parse()
    except ValueError:
        _file().replace(_file().with_name("library.json.damaged"))
        return []


def _write(entries: list[Entry]) -> None:
    rows = [asdict(entry) for entry in entries]
    content = {"format": CURRENT["library"], "home": str(home()), "entries": rows}
    write_atomic(_file(), json.dumps(content, indent=1))

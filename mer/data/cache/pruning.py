"""Size of the feature store, and removal of entries. Everything in the store can be computed again."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mer.config.sections import AudioConfig
from mer.data.cache.arrays import ABOUT, is_whole
from mer.data.cache.descriptors import settings
from mer.data.cache.store import FACTS_VERSION, VERSION, FeatureStore
from mer.utils.files import read_kept, writing

__all__ = ["Freed", "Part", "parts", "prune", "size"]

DAY = 86_400.0
UNFINISHED = 3600.0  # s after which no process can still be writing an unfinished file
KINDS = ("images", "embeddings", "descriptors")


@dataclass(frozen=True, slots=True)
class Part:
    """One shelf of the store, or the facts: `entries` of `size` bytes, last used at `used` (Unix time).

    `settings` are those that the entries were made with. They are None for the facts, for a shelf of another
    version of mer, and for a shelf that was never completed.
    """

    kind: str
    folder: Path
    entries: int
    size: int
    used: float
    settings: dict[str, Any] | None

    @property
    def outdated(self) -> bool:
        """True if this version of mer cannot use it."""
        return self.kind != "facts" and self.settings is None

    @property
    def title(self) -> str:
        """A short description of its contents."""
        if self.kind == "facts":
            return "results of decoding"
        if self.settings is None:
            return "of another version"
        if self.kind == "descriptors":
            return "statistics of each clip's sound, for the SVM"
        audio, mel = self.settings["audio"], self.settings["mel"]
        images = (
            f"{audio['window_seconds']:g} s every {audio['hop_seconds']:g} s, {audio['sample_rate']} Hz, "
            f"{mel['n_mels']} bands, {AudioConfig.from_key(audio).resampler}"
        )
        if self.kind == "images":
            return images
        return f"{self.settings['backbone']} ({self.settings['sees']}), {images}"


@dataclass(frozen=True, slots=True)
class Freed:
    """Number of files that were removed, and their size in bytes."""

    files: int = 0
    size: int = 0

    def __add__(self, other: "Freed") -> "Freed":
        return Freed(self.files + other.files, self.size + other.size)


def size(root: Path) -> int:
    """Size in bytes of all files of the store below `root`."""
    return sum(_size(path) for path in root.rglob("*"))


def parts(root: Path) -> list[Part]:
    """The shelves and the facts of the store, the largest first."""
    found = [
        _part(kind, folder) for kind in KINDS for folder in sorted((root / kind).glob("*")) if folder.is_dir()
    ]
    facts = root / "facts"
    if facts.is_dir():
        found.append(_part("facts", facts))
    return sorted(found, key=lambda part: -part.size)


def _part(kind: str, folder: Path) -> Part:
    sizes = [_size(path) for path in _entries(folder)]
    about = folder / ABOUT
    used = about.stat().st_mtime if about.is_file() else folder.stat().st_mtime
    return Part(kind, folder, len(sizes), sum(sizes), used, _settings(kind, about))


def _settings(kind: str, about: Path) -> dict[str, Any] | None:
    """The settings noted in a shelf, or None if this version of mer cannot use it."""

    def usable(found: Any) -> bool:
        if kind == "descriptors":
            return found in (settings(AudioConfig(resampler=way)) for way in ("soxr", "sinc"))
        needed = ("audio", "mel", *(("backbone", "sees", "structure") if kind == "embeddings" else ()))
        return found["version"] == VERSION and all(found[name] for name in needed)

    return read_kept(about, lambda found: found if usable(found) else None)


def _entries(folder: Path) -> Iterator[Path]:
    """Complete entries; names of unfinished files begin with a dot."""
    return (path for path in folder.glob("??/*") if not path.name.startswith("."))


def _size(path: Path) -> int:
    try:
        return 0 if path.is_dir() else path.stat().st_size
    except FileNotFoundError:  # another process has removed it
        return 0


def prune(
    store: FeatureStore,
    *,
    unused_days: float | None = None,
    gone: bool = False,
    everything: bool = False,
    dry_run: bool = False,
) -> Freed:
    """Remove entries that no run can use: unfinished or damaged ones, and those of another version of mer.

    Parameters
    ----------
    store
        The feature store.
    unused_days
        Also remove shelves that were last used more than this many days ago.
    gone
        Also remove the entries of clips whose files are no longer where they were last read.
    everything
        Remove the whole store.
    dry_run
        Remove nothing, only count.

    Returns
    -------
    Freed
        The files removed, or in a dry run the files that would be.

    Raises
    ------
    StorageError
        If the store cannot be written.
    """
    remove = _Remover(dry_run)
    with writing(store.root):
        if everything:
            return remove.tree(store.root)
        freed = sum((remove.file(path) for path in _leftovers(store.root)), Freed())
        lost = store.stamps.gone() if gone else set()
        for part in parts(store.root):
            old = unused_days is not None and time.time() - part.used > unused_days * DAY
            if part.outdated or (old and part.kind != "facts"):
                freed += remove.tree(part.folder)
                continue
            for path in _entries(part.folder):
                if path.stem.partition("-")[0] in lost or not _is_usable(path):
                    freed += remove.file(path)
    return freed


def _leftovers(root: Path) -> Iterator[Path]:
    """Unfinished files of processes that were killed."""
    for path in root.rglob(".*"):
        if path.is_file() and time.time() - path.stat().st_mtime > UNFINISHED:
            yield path


def _is_usable(path: Path) -> bool:
    """True if an entry is undamaged and, if it holds facts, of this version."""
    if path.suffix == ".npy":
        return is_whole(path)
    return read_kept(path, lambda found: found["version"] == FACTS_VERSION) is True


@dataclass(frozen=True, slots=True)
class _Remover:
    """Removes files, or in a dry run only counts them."""

    dry_run: bool

    def file(self, path: Path) -> Freed:
        """Remove a file, if it exists."""
        freed = Freed(1, _size(path))
        if not self.dry_run:
            path.unlink(missing_ok=True)
        return freed

    def tree(self, folder: Path) -> Freed:
        """Remove a folder with all its files, if it exists."""
        files = [path for path in folder.rglob("*") if path.is_file()]
        freed = Freed(len(files), sum(map(_size, files)))
        if not self.dry_run and folder.is_dir():
            shutil.rmtree(folder)
        return freed

"""What the feature store takes on disk, and making room in it. All of it can be computed again."""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mer.config.sections import AudioConfig
from mer.data.cache.arrays import ABOUT, is_whole
from mer.data.cache.descriptors import settings
from mer.data.cache.store import VERSION, FeatureStore
from mer.utils.files import writing

__all__ = ["Freed", "Part", "parts", "prune", "size"]

DAY = 86_400.0
LEFT = 3600.0  # s after which an unfinished file belongs to nobody any more
KINDS = ("images", "embeddings", "descriptors")


@dataclass(frozen=True, slots=True)
class Part:
    """One shelf of the store, or the facts: `entries` of `size` bytes, last used at `used` (Unix time).

    `settings` are those that its entries were made with; none where they are of another version of mer or the
    shelf was never finished.
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
        """What is in it, in a few words."""
        if self.kind == "facts":
            return "what decoding found out"
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
    """How many files, and bytes, were removed."""

    files: int = 0
    size: int = 0

    def __add__(self, other: "Freed") -> "Freed":
        return Freed(self.files + other.files, self.size + other.size)


def size(root: Path) -> int:
    """Bytes of all files of the store."""
    return sum(_size(path) for path in root.rglob("*"))


def parts(root: Path) -> list[Part]:
    """What is in the store, the largest first."""
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
    """What a shelf says of itself, if this version of mer can use it."""
    try:
        found = json.loads(about.read_text("utf-8"))
        if kind == "descriptors":
            ways = (AudioConfig(resampler=way) for way in ("soxr", "sinc"))
            return found if found in map(settings, ways) else None
        needed = ("audio", "mel", *(("backbone", "sees", "structure") if kind == "embeddings" else ()))
        return found if found["version"] == VERSION and all(found[name] for name in needed) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _entries(folder: Path) -> Iterator[Path]:
    """Finished entries."""
    return (path for path in folder.glob("??/*") if not path.name.startswith("."))


def _size(path: Path) -> int:
    try:
        return 0 if path.is_dir() else path.stat().st_size
    except FileNotFoundError:  # another process was quicker
        return 0


def prune(
    store: FeatureStore,
    *,
    unused_days: float | None = None,
    gone: bool = False,
    everything: bool = False,
    dry_run: bool = False,
) -> Freed:
    """Remove what no run can use: leftovers of killed ones, damaged entries, those of another version of mer.

    Besides, if asked for: shelves that were not used for so many days, entries of clips that are no longer
    where they were last read, or everything. Nothing is removed in a `dry_run`. Raises StorageError.
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
                if path.stem.partition("-")[0] in lost or not _is_sound(path):
                    freed += remove.file(path)
    return freed


def _leftovers(root: Path) -> Iterator[Path]:
    """What writers that were killed left behind."""
    for path in root.rglob(".*"):
        if path.is_file() and time.time() - path.stat().st_mtime > LEFT:
            yield path


def _is_sound(path: Path) -> bool:
    """True if an entry can be used."""
    if path.suffix == ".npy":
        return is_whole(path)
    try:
        return json.loads(path.read_text("utf-8"))["version"] == VERSION
    except (OSError, ValueError, KeyError, TypeError):
        return False


@dataclass(frozen=True, slots=True)
class _Remover:
    """Removes, or only counts what it would remove."""

    dry_run: bool

    def file(self, path: Path) -> Freed:
        freed = Freed(1, _size(path))
        if not self.dry_run:
            path.unlink(missing_ok=True)
        return freed

    def tree(self, folder: Path) -> Freed:
        files = [path for path in folder.rglob("*") if path.is_file()]
        freed = Freed(len(files), sum(map(_size, files)))
        if not self.dry_run and folder.is_dir():
            shutil.rmtree(folder)
        return freed

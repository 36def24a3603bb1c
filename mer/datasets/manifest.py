"""A CSV manifest: `path,label` and optionally `song` and `split`, paths relative to the CSV."""

import csv
from collections.abc import Iterator
from pathlib import Path

from mer.datasets.base import AUDIO_SUFFIXES, Clip, Dataset
from mer.datasets.tree import describe
from mer.errors import DataError

__all__ = ["read_manifest"]

SPLITS = {"train": "train", "val": "validation", "validation": "validation", "test": "test", "": None}


def read_manifest(path: Path, *, label_column: str = "label", song_column: str = "song") -> Dataset:
    """Clips listed in a CSV file (UTF-8, header in the first line).

    Files that are missing or have no label are left out with the reason. Raises DataError on a
    missing column, a path outside the CSV's folder, an unknown split, or one path with two labels.
    """
    root = path.parent
    clips: dict[str, Clip] = {}
    left_out = []
    for line, row in _rows(path, label_column, song_column):
        name, label = row["path"].strip().replace("\\", "/"), row[label_column].strip()
        reason = _reason(root, name, label, where=f"{path}, line {line}")
        if reason:
            left_out.append((name, reason))
            continue
        song = (row.get(song_column) or "").strip() or None
        clip = Clip(name, root / name, label, song, _split(row.get("split"), f"{path}, line {line}"))
        if clips.setdefault(name, clip).label != label:
            raise DataError(f"{path}: {name!r} is {clips[name].label!r} and {label!r}; keep one of the lines")
    if not clips:
        raise DataError(f"{path}: no usable line among {len(left_out)}; paths are relative to {root}")
    return Dataset(root=path, clips=tuple(clips.values()), left_out=tuple(left_out), **describe(root))


def _rows(path: Path, label_column: str, song_column: str) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            columns = reader.fieldnames or []
            needed = ["path", label_column] + ([song_column] if song_column != "song" else [])
            for column in needed:
                if column not in columns:
                    raise DataError(f"{path}: no column {column!r}; it has: {', '.join(columns) or 'none'}")
            for row in reader:
                yield reader.line_num, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8 ({error}); save it as one") from error


def _reason(root: Path, name: str, label: str, *, where: str) -> str | None:
    """Why a line gives no clip, else None; raises DataError if it points outside the folder."""
    if not name:
        return "no path"
    if not _is_inside(root, name):
        raise DataError(f"{where}: {name!r} points outside {root}; put the clips beside the CSV")
    if not label:
        return "no label"
    if Path(name).suffix.lower() not in AUDIO_SUFFIXES:
        return f"not audio ({Path(name).suffix or 'no extension'})"
    try:
        return None if (root / name).is_file() else "no such file"
    except OSError as error:
        return f"unreadable: {error.strerror}"


def _is_inside(root: Path, name: str) -> bool:
    if "\0" in name or Path(name).is_absolute():
        return False
    try:
        return (root / name).resolve().is_relative_to(root.resolve())
    except RuntimeError:  # symlinks in a circle lead nowhere
        return True


def _split(value: str | None, where: str) -> str | None:
    key = (value or "").strip().lower()
    if key not in SPLITS:
        raise DataError(f"{where}: split {value!r} is not one of train, validation, test or empty")
    return SPLITS[key]

"""A CSV manifest: `path,label` and optionally `song` and `split`, paths relative to the CSV.

In place of a label there may be a column of votes for each class (`mer.datasets.votes`).
"""

import csv
from pathlib import Path

from mer.datasets.base import AUDIO_SUFFIXES, Clip, Dataset
from mer.datasets.tree import describe
from mer.datasets.votes import shares_of, vote_columns
from mer.errors import DataError

__all__ = ["read_manifest"]

SPLITS = {"train": "train", "val": "validation", "validation": "validation", "test": "test", "": None}


def read_manifest(path: Path, *, label_column: str = "label", song_column: str = "song") -> Dataset:
    """Clips listed in a CSV file (UTF-8, header in the first line).

    Files that are missing or have no label are left out with the reason. Raises DataError on a
    missing column, a path outside the CSV's folder, an unknown split, or one path with two labels.
    """
    root, clips, left_out = path.parent, {}, []
    columns, rows = _read(path)
    classes = vote_columns(label_column, columns)
    _require(path, columns, [*(classes.values() or [label_column]), *({song_column} - {"song"})])
    for line, row in rows:
        where, name = f"{path}, line {line}", row["path"].strip().replace("\\", "/")
        votes = shares_of(row, classes, where=where) if classes else None
        label = _top(classes, votes) if classes else row[label_column].strip()
        reason = _reason(root, name, label, where=where)
        if reason:
            left_out.append((name, reason))
            continue
        song = (row.get(song_column) or "").strip() or None
        clip = Clip(name, root / name, label, song, _split(row.get("split"), where), votes)
        if clips.setdefault(name, clip).label != label:
            raise DataError(f"{path}: {name!r} is {clips[name].label!r} and {label!r}; keep one of the lines")
    if not clips:
        raise DataError(f"{path}: no usable line among {len(left_out)}; paths are relative to {root}")
    found = tuple(clips.values())
    return Dataset(root=path, clips=found, left_out=tuple(left_out), order=tuple(classes), **describe(root))


def _top(classes: dict[str, str], votes: tuple[float, ...] | None) -> str:
    """The class with the most votes, the first of several; nothing without votes."""
    return list(classes)[votes.index(max(votes))] if votes else ""


def _read(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The names of the columns, and each row with the number of its line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            columns = list(reader.fieldnames or [])
            _require(path, columns, ["path"])
            return columns, [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8 ({error}); save it as one") from error


def _require(path: Path, columns: list[str], needed: list[str]) -> None:
    for column in needed:
        if column not in columns:
            raise DataError(f"{path}: no column {column!r}; it has: {', '.join(columns) or 'none'}")


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

"""Read a CSV manifest with columns `path`, `label` and, optionally, `song` and `split`.

Paths are relative to the folder of the CSV file and may not leave it, so that a data set is one folder that
can be moved, packed and shared. Absolute paths that lie in it, and bare names of files below it, are found
too. Instead of a label there may be one column of votes per class (`mer.data.vote_columns`).
"""

import csv
from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np

from mer.audio.formats import AUDIO_SUFFIXES
from mer.data.clips import LONGEST_NAME, Clip, Dataset, class_name, twins
from mer.data.folders import describe, first_reasons, suffix_fault
from mer.data.levels import SPLITS, is_audio
from mer.data.vote_columns import Votes, vote_columns, votes_of
from mer.data.walk import walk
from mer.utils.errors import DataError
from mer.utils.text import composed, spellings

__all__ = ["line_fault", "read_manifest", "require_columns", "split_of"]

MAX_BYTES, MAX_LINES = 64 * 2**20, 200_000


def read_manifest(path: Path, *, label_column: str = "label", song_column: str = "song") -> Dataset:
    """Read the clips listed in a CSV file (UTF-8, with the column names in the first line).

    A file that is missing or has no label is left out, and the reason is kept.

    Parameters
    ----------
    path
        The CSV file, at most 64 MB and 200,000 lines.
    label_column
        Column with the labels, or columns with votes (`mer.data.vote_columns`).
    song_column
        Column with the songs. It may be absent if it is the default.

    Raises
    ------
    DataError
        If the file is too large or not CSV, a column is missing, a path leaves the folder, a split or a vote
        is not valid, a path has two labels, or no line is usable.
    """
    root, clips, left_out = path.parent, {}, []
    disk, (columns, rows) = _Disk(root), _read(path)
    by_vote = vote_columns(label_column, columns)
    needed = by_vote.columns.values() if by_vote else [label_column]
    require_columns(path, columns, [*needed, *({song_column} - {"song"})])
    for line, row in rows:
        where, name = f"{path}, line {line}", disk.name(row["path"].strip().replace("\\", "/"))
        votes = votes_of(row, by_vote.columns, where=where) if by_vote else None
        label = "" if by_vote else class_name(row[label_column])
        song = composed((row.get(song_column) or "").strip()) or None
        reason = _reason_to_leave_out(disk, name, label, song, labelled=bool(label or votes), where=where)
        if reason:
            left_out.append((name, reason))
            continue
        clip = Clip(name, root / name, label, song, split_of(row.get("split"), where), votes and tuple(votes))
        known = clips.setdefault(name, clip)
        if (known.label, known.votes) != (clip.label, clip.votes):
            raise DataError(
                f"{path}: {name!r} is {_label_text(known)} and {_label_text(clip)}; keep one of the lines"
            )
    if not clips:
        raise DataError(
            f"{path}: no usable line among {len(left_out)}; paths are relative to {root}"
            f"{first_reasons(left_out)}"
        )
    found = tuple(clips.values())
    if by_vote:
        found = _labelled(found, by_vote)
    order = by_vote.classes if by_vote else ()
    remarks = twins({clip.label for clip in found})
    return Dataset(
        root=path, clips=found, left_out=tuple(left_out), order=order, remarks=remarks, **describe(root)
    )


def _labelled(clips: tuple[Clip, ...], by_vote: Votes) -> tuple[Clip, ...]:
    """Replace votes by the distribution to learn. The label is its most probable class, the first if tied."""
    songs = [clip.song or clip.id for clip in clips]
    rows = by_vote.distributions(np.array([clip.votes for clip in clips], float), songs)
    return tuple(
        replace(clip, label=by_vote.classes[int(row.argmax())], votes=tuple(row.tolist()))
        for clip, row in zip(clips, rows, strict=True)
    )


def _label_text(clip: Clip) -> str:
    """The label or the votes of a line, for an error message."""
    return repr(clip.label) if clip.votes is None else ", ".join(f"{value:g}" for value in clip.votes)


def _read(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The column names, and each row with its line number."""
    if path.stat().st_size > MAX_BYTES:
        raise DataError(f"{path} is larger than {MAX_BYTES >> 20} MB; split it")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            columns = list(reader.fieldnames or [])
            require_columns(path, columns, ["path"])
            rows = [(reader.line_num, row) for row in islice(reader, MAX_LINES + 1)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8 ({error}); save it as one") from error
    if len(rows) > MAX_LINES:
        raise DataError(f"{path} has more than {MAX_LINES} lines; split it")
    return columns, rows


class _Disk:
    """The files in and below the folder of a manifest."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def below(self) -> dict[str, list[str]]:
        """Paths of the files below the folder, by their composed names. Listed only if a line needs it."""
        found: dict[str, list[str]] = defaultdict(list)
        for name in walk(self.root).files:
            found[composed(name.rpartition("/")[2])].append(name)
        return found

    def name(self, written: str) -> str:
        """The path of a file, relative to the folder, or the text as it is written if there is no such file.

        It may be written in another Unicode form than on disk, as an absolute path, or as a bare file name
        that only one file below the folder has.
        """
        if written.startswith("/"):
            with suppress(ValueError, OSError, RuntimeError):
                return Path(written).resolve().relative_to(self.root.resolve()).as_posix()
            return written
        for form in spellings(written):
            with suppress(OSError, ValueError):
                if (self.root / form).is_file():
                    return form
        same = self.same_name(written)
        return same[0] if len(same) == 1 else written

    def same_name(self, written: str) -> list[str]:
        """Paths of the files below the folder that have this bare file name."""
        return self.below.get(composed(written), []) if is_audio(written) and "/" not in written else []


def require_columns(path: Path, columns: list[str], needed: list[str]) -> None:
    """Raise DataError unless a manifest has all needed columns.

    Parameters
    ----------
    path
        The manifest, for the message.
    columns
        Names of its columns.
    needed
        Names of the columns that it must have.
    """
    for column in needed:
        if column not in columns:
            raise DataError(f"{path}: no column {column!r}; it has: {', '.join(columns) or 'none'}")


def _reason_to_leave_out(
    disk: _Disk, name: str, label: str, song: str | None, *, labelled: bool, where: str
) -> str | None:
    """Why a line gives no clip, or None if it does. Raises DataError if it points outside the folder."""
    root = disk.root
    if not name:
        return "no path"
    if not _is_inside(root, name):
        raise DataError(f"{where}: {name!r} points outside {root}; put the clips beside the CSV")
    if fault := line_fault(name, label, song, labelled=labelled):
        return fault
    try:
        if (root / name).is_file():
            return None
    except OSError as error:
        return f"unreadable: {error.strerror}"
    if same := disk.same_name(name):
        return f"no such file here, but {len(same)} with this name below; give the path"
    return "no such file"


def line_fault(name: str, label: str, song: str | None, *, labelled: bool) -> str | None:
    """Why a line of a manifest gives no clip, or None. Only its text is checked, not the file.

    Parameters
    ----------
    name
        Path of the clip.
    label, song
        Texts of these columns.
    labelled
        True if the line has a label or votes.
    """
    if not name:
        return "no path"
    if not labelled:
        return "no label"
    if max(len(label), len(song or "")) > LONGEST_NAME:
        return f"its label or song is longer than {LONGEST_NAME} letters"
    return None if PurePosixPath(name).suffix.lower() in AUDIO_SUFFIXES else suffix_fault(name)


def _is_inside(root: Path, name: str) -> bool:
    if "\0" in name or Path(name).is_absolute():
        return False
    try:
        return (root / name).resolve().is_relative_to(root.resolve())
    except RuntimeError:  # a loop of symlinks leads to no file
        return True


def split_of(value: str | None, where: str) -> str | None:
    """The part that a `split` cell names, or None if it is empty. Raises DataError for any other word."""
    key = (value or "").strip().lower()
    if key and key not in SPLITS:
        raise DataError(f"{where}: split {value!r} is not one of train, validation, test or empty")
    return SPLITS.get(key)

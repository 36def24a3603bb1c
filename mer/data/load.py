"""Load a data set: one folder per class, a zip of such a folder, or a CSV manifest."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from mer.data.clips import Dataset, is_sharded
from mer.data.folders import USED, read_tree, suffix_fault
from mer.data.levels import MANIFEST, class_level, is_audio
from mer.data.manifest import read_manifest
from mer.data.song_names import AUTO
from mer.data.walk import walk
from mer.data.zips import left_in_zip, unpack_zip
from mer.utils.errors import DataError, MerError

__all__ = ["load_dataset", "reading"]


def load_dataset(
    path: Path, *, label_column: str = "label", song_column: str = "song", song_pattern: str = AUTO
) -> Dataset:
    """Load the data set at `path` without decoding any audio.

    Parameters
    ----------
    path
        A folder, a .zip or a .csv. If a folder holds manifest.csv, that is read.
    label_column
        Column with the labels, or columns with votes (`mer.data.vote_columns`).
    song_column
        Column with the songs.
    song_pattern
        Pattern of file names that names the songs (`mer.data.clips.Dataset.named_by`).

    Raises
    ------
    DataError
        If there is no data set at `path`. The message gives the remedy.
    ConfigError
        If the pattern is not valid.
    """
    try:
        found = _load(path, {"label_column": label_column, "song_column": song_column})
        return found.named_by(song_pattern)
    except MerError:
        raise
    except OSError as error:
        raise DataError(
            f"{error.filename or path} cannot be read: {error.strerror or error}; check its permissions"
        ) from error


def reading(request: Any) -> dict[str, str]:
    """The keyword arguments of `load_dataset`, from the attributes of these names."""
    return {name: getattr(request, name) for name in ("label_column", "song_column", "song_pattern")}


def _load(path: Path, columns: dict[str, str]) -> Dataset:
    """`load_dataset`, with the names of the columns as keyword arguments."""
    if not path.exists():
        raise DataError(
            f"{path}: no such file or folder; check the path, or make a corpus with: mer data demo"
        )
    if is_sharded(path):
        raise DataError(
            f"{path} is a sharded set of images, without audio; use it with: mer train --data {path}"
        )
    if path.suffix.lower() == ".parquet":
        raise DataError(f"{path}: prepare a Parquet manifest first: mer prepare {path} --shards FOLDER")
    if path.is_dir():
        return _load_folder(path, columns)
    if path.suffix.lower() == ".csv":
        return read_manifest(path, **columns)
    if path.suffix.lower() == ".zip":
        return _load_folder(unpack_zip(path), columns)
    raise DataError(
        f"{path}: not a data set; give a folder with one folder per class, a .zip of one, or a .csv"
    )


def _load_folder(path: Path, columns: dict[str, str]) -> Dataset:
    """Read the manifest in a folder if it has one, else one folder per class."""
    found, left = walk(path), left_in_zip(path)
    top = class_level(found.files)
    if top + MANIFEST not in found.files:
        if columns != {"label_column": "label", "song_column": "song"}:
            raise DataError(
                f"{path}: a folder has no columns; give the CSV file in it instead, with --label-column"
            )
        return read_tree(path, found=found, others=left)
    data = read_manifest(path / top / MANIFEST, **columns)
    listed = {top + clip.id for clip in data.clips} | {top + name for name, _ in data.left_out}
    rest = [name for name in found.files if name not in listed and name.removeprefix(top) not in USED]
    reasons = [
        (name.removeprefix(top), f"not in {MANIFEST}" if is_audio(name) else suffix_fault(name))
        for name in rest
    ]
    return replace(data, left_out=(*data.left_out, *reasons, *found.left_out, *left))

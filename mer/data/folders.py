"""Read a folder with one folder per class, the layout of MER500 (`Sad/Sad/*.wav`)."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from mer.audio.formats import AUDIO_NAMES, misnamed
from mer.data.clips import LONGEST_NAME, Clip, Dataset, class_name, twins
from mer.data.levels import MANIFEST, SPLITS, class_level, is_audio, split_place
from mer.data.walk import Found, walk
from mer.utils.errors import DataError
from mer.utils.files import as_path

__all__ = ["CARD", "USED", "audio_below", "describe", "first_reasons", "read_tree", "suffix_fault"]

MAX_CARD = 2**20
CARD = "dataset.json"
USED = {MANIFEST, CARD}  # beside the classes; they are read, and so not left out


def describe(root: Path) -> dict[str, object]:
    """Name, licence, notes and synthetic flag of a data set, from the `dataset.json` in its folder."""
    card = root / CARD
    data = {}
    if card.is_file():
        if card.stat().st_size > MAX_CARD:
            raise DataError(f"{card} has {card.stat().st_size} bytes, of at most {MAX_CARD}; shorten it")
        try:
            data = json.loads(card.read_text("utf-8"))
        except (ValueError, RecursionError) as error:
            raise DataError(f"{card} is not JSON ({error}); repair or remove it") from error
        if not isinstance(data, dict):
            raise DataError(f"{card} holds no object; repair or remove it")
    name, licence = (str(data.get(key) or "") for key in ("name", "licence"))
    for text in (name, licence):
        if len(text) > LONGEST_NAME:
            raise DataError(f"{card}: {text[:40]!r}... is longer than {LONGEST_NAME} letters; shorten it")
    return {
        "name": name or root.name,
        "synthetic": data.get("synthetic") is True,
        "licence": licence or None,
        "notes": str(data.get("notes") or ""),
    }


def read_tree(root: Path, *, found: Found | None = None, others: Sequence[tuple[str, str]] = ()) -> Dataset:
    """Read the clips of a folder that has one folder per class.

    The class is the name of the first folder that a file is in, at any depth, from the level at which the
    classes lie (`mer.data.levels`). Folders named train, validation and test above or below the classes are
    the parts of a split. Links are followed if they stay inside the folder.

    Parameters
    ----------
    root
        The folder.
    found
        What is below it, if that is known.
    others
        (name, reason) of files that are not clips and are not in the folder, such as those left in a zip.

    Raises
    ------
    DataError
        If no class folder holds audio.
    """
    found = found or walk(root)
    level = class_level(found.files)
    inner = [name.removeprefix(level) for name in found.files if name.startswith(level)]
    place = split_place([name.split("/") for name in inner if is_audio(name)])
    clips, faults = [], [*others, *found.left_out, *((name, "empty folder") for name in found.empty)]
    for name in found.files:
        inside = name.removeprefix(level) if name.startswith(level) else None
        fault = _fault(root / name, inside, 1 if place is None else 2)
        if fault:
            faults.append((name, fault))
        elif inside not in USED:
            clips.append(_clip(root / level, inside, place))
    left_out = sorted((name.removeprefix(level), reason) for name, reason in faults)
    if not clips:
        raise DataError(
            f"{root}: no class folder with audio; lay it out as {root.name}/<class>/<clip>.wav, "
            f"or give a CSV manifest with columns path,label{first_reasons(left_out)}"
        )
    below = [name.removeprefix(level) for name, _ in faults if name.startswith(level)]
    remarks = _remarks(clips, below, place)
    return Dataset(
        root=root, clips=tuple(clips), left_out=tuple(left_out), remarks=remarks, **describe(root / level)
    )


def first_reasons(left_out: Sequence[tuple[str, str]], most: int = 3) -> str:
    """The end of an error message: the first files that are left out, with reasons; "" if there are none."""
    if not left_out:
        return ""
    named = ", ".join(f"{name[:120]!r} ({reason})" for name, reason in left_out[:most])
    more = len(left_out) - most
    return f"; left out: {named}{f' and {more} more' if more > 0 else ''}"


def suffix_fault(name: str) -> str:
    """The reason for a file whose suffix is not listed."""
    return f"not audio ({PurePosixPath(name).suffix or 'no extension'})"


def _clip(top: Path, name: str, place: int | None) -> Clip:
    """The clip of this name, relative to the level of the classes."""
    parts = name.split("/")
    label = class_name(parts[1 if place == 0 else 0])
    return Clip(
        name, top / name, label, split=None if place is None else SPLITS[parts[place].strip().lower()]
    )


def _fault(path: Path, inside: str | None, folders: int) -> str | None:
    """Why a file is not a clip, or None if it is one or one of `USED`.

    Parameters
    ----------
    path
        The file.
    inside
        Its name from the level of the classes; None if it lies outside.
    folders
        Number of folders that a clip lies in at least.
    """
    if inside in USED:
        return None
    if not is_audio(path.name):
        return misnamed(path) or suffix_fault(path.name)
    if inside is None or inside.count("/") < folders:
        return "not in a class folder"
    return None if class_name(inside.split("/")[0]) else "its folder has no name but spaces; rename it"


def _remarks(clips: Sequence[Clip], left_out: Sequence[str], place: int | None) -> tuple[str, ...]:
    """Sentences on classes that differ in capitals only, and on class folders without a clip.

    Parameters
    ----------
    clips
        The clips.
    left_out
        Names of files at and below the level of the classes that are not clips.
    place
        See `split_place`.
    """
    at = 1 if place == 0 else 0  # of the class in a name
    labels = {clip.label for clip in clips}
    used = {clip.id.split("/")[at] for clip in clips}
    lost = Counter(name.split("/")[at] for name in left_out if name.count("/") > at)
    return twins(labels) + tuple(
        f"The folder {name!r} has no clip; {count} of its files {'is' if count == 1 else 'are'} left out."
        for name, count in sorted(lost.items())
        if name not in used
    )


def audio_below(folder: str | os.PathLike) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Every audio file below a folder, and the other files with the reason why they are not taken.

    Hidden files and folders, and the manifest and card of a data set, are in neither. Links to folders, and
    links to files outside `folder`, are not followed.

    Raises
    ------
    DataError
        If there is no audio, or the folder cannot be read.
    """
    folder = as_path(folder, "folder")
    try:
        found = walk(folder, linked_folders=False)
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}; change its permissions") from error
    audio = [folder / name for name in found.files if is_audio(name)]
    others = [folder / name for name in found.files if not is_audio(name) and name not in USED]
    left_out = [(path, misnamed(path) or suffix_fault(path.name)) for path in others]
    left_out += [(folder / name, reason) for name, reason in found.left_out]
    if not audio:
        raise DataError(f"{folder}: no audio below it; choose a folder of {AUDIO_NAMES}")
    return audio, sorted(left_out)

"""A folder per class, or a zip of one, the way MER500 is distributed (`Sad/Sad/*.wav`)."""

import json
import lzma
import shutil
import zipfile
import zlib
from hashlib import file_digest
from pathlib import Path, PurePosixPath, PureWindowsPath

from mer.datasets.base import AUDIO_SUFFIXES, Clip, Dataset
from mer.errors import DataError
from mer.files import home, new_folder

__all__ = ["describe", "read_tree", "unpack_zip", "unwrap"]

MAX_ENTRIES = 200_000
MAX_UNPACKED = 64 * 2**30
DAMAGED = (zipfile.BadZipFile, EOFError, UnicodeDecodeError, lzma.LZMAError, zlib.error)
KEPT_FILES = {"manifest.csv", "dataset.json"}


def describe(root: Path) -> dict[str, object]:
    """Name, licence, notes and the synthetic mark of a data set, from `dataset.json` beside the clips."""
    card = root / "dataset.json"
    data = {}
    if card.is_file():
        try:
            data = json.loads(card.read_text("utf-8"))
        except ValueError as error:
            raise DataError(f"{card} is not JSON ({error}); repair or remove it") from error
        if not isinstance(data, dict):
            raise DataError(f"{card} holds no object; repair or remove it")
    return {
        "name": str(data.get("name") or root.name),
        "synthetic": data.get("synthetic") is True,
        "licence": str(data["licence"]) if data.get("licence") else None,
        "notes": str(data.get("notes") or ""),
    }


def read_tree(root: Path) -> Dataset:
    """Clips of a folder per class; the class is the first folder's name, however deep the files lie.

    Raises DataError if there is no class folder with audio.
    """
    top = unwrap(root)
    clips, left_out = [], []
    for path in sorted(p for p in top.rglob("*") if p.is_file() and not _is_hidden(p.relative_to(top))):
        parts = path.relative_to(top).parts
        name = "/".join(parts)
        if len(parts) == 1 and path.suffix.lower() not in AUDIO_SUFFIXES:
            continue  # a README or the card
        reason = _reason(name)
        if reason:
            left_out.append((name.encode(errors="replace").decode(), reason))
        else:
            clips.append(Clip(id=name, path=path, label=parts[0]))
    if not clips:
        raise DataError(
            f"{root}: no class folder with audio; lay it out as {root.name}/<class>/<clip>.wav, "
            "or give a CSV manifest with columns path,label"
        )
    return Dataset(root=root, clips=tuple(clips), left_out=tuple(left_out), **describe(top))


def _reason(name: str) -> str | None:
    """Why a file is no clip, else None."""
    if name.encode(errors="ignore").decode() != name:
        return "file name is not Unicode; rename it"
    path = PurePosixPath(name)
    if len(path.parts) == 1:
        return "not in a class folder"
    if path.suffix.lower() not in AUDIO_SUFFIXES:
        return f"not audio ({path.suffix or 'no extension'})"
    return None


def _is_hidden(relative: Path) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in relative.parts)


def unwrap(root: Path) -> Path:
    """Step into a single wrapping folder, as zips often have, where classes or a manifest lie in it."""
    while True:
        entries = [p for p in root.iterdir() if not _is_hidden(p.relative_to(root))]
        if len(entries) != 1 or not entries[0].is_dir():
            return root
        below = [p for p in entries[0].iterdir() if p.is_dir() and not _is_hidden(p.relative_to(root))]
        if len(below) < 2 and not (entries[0] / "manifest.csv").is_file():
            return root
        root = entries[0]


def unpack_zip(path: Path) -> Path:
    """Unpack the audio of a zip under MER_HOME, once for the same content; returns the folder.

    Raises DataError on a damaged zip, names that point outside, or one too large to be a data set.
    """
    with path.open("rb") as file:
        key = file_digest(file, "sha256").hexdigest()[:20]
    target = home() / "datasets" / key / path.stem
    if target.is_dir():
        return target
    try:
        with zipfile.ZipFile(path) as archive, new_folder(target) as folder:
            for member in _members(archive, path):
                out = folder.joinpath(*PureWindowsPath(member.filename).parts)
                out.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, out.open("wb") as sink:
                    shutil.copyfileobj(source, sink)
    except (*DAMAGED, NotImplementedError, RuntimeError) as error:  # the last: a password
        raise DataError(f"{path} is not a whole zip ({error}); fetch or pack it again") from error
    return target


def _members(archive: zipfile.ZipFile, path: Path) -> list[zipfile.ZipInfo]:
    """What to unpack; refuses the whole zip if any name points outside or the sum is too large."""
    members = archive.infolist()
    if len(members) > MAX_ENTRIES:
        raise DataError(f"{path} has {len(members)} entries; at most {MAX_ENTRIES} are unpacked")
    chosen = []
    for member in members:
        name = PureWindowsPath(member.filename)  # takes / and \ for separators, and knows drives
        if name.anchor or ".." in name.parts:
            raise DataError(f"{path} holds {member.filename!r}, which points outside it; pack it again")
        wanted = name.suffix.lower() in AUDIO_SUFFIXES or name.name in KEPT_FILES
        if wanted and not member.is_dir() and not _is_hidden(Path(*name.parts)):
            chosen.append(member)
    total = sum(member.file_size for member in chosen)
    if total > MAX_UNPACKED:
        raise DataError(f"{path} unpacks to {total / 2**30:.0f} GB; at most {MAX_UNPACKED >> 30} are allowed")
    if not chosen:
        raise DataError(f"{path} holds no audio; expected <class>/<clip>.wav inside")
    return chosen

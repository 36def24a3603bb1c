"""Read a folder with one folder per class, the layout of MER500 (`Sad/Sad/*.wav`)."""

import json
from pathlib import Path, PurePosixPath

from mer.audio.formats import AUDIO_SUFFIXES
from mer.data.clips import LONGEST_NAME, Clip, Dataset, is_hidden
from mer.utils.errors import DataError
from mer.utils.text import composed

__all__ = ["describe", "read_tree", "unwrap"]

MAX_CARD = 2**20


def describe(root: Path) -> dict[str, object]:
    """Name, licence, notes and synthetic flag of a data set, from the `dataset.json` in its folder."""
    card = root / "dataset.json"
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


def read_tree(root: Path) -> Dataset:
    """Read the clips of a folder that has one folder per class.

    The class is the name of the top folder that a file is in, at any depth. Links are followed if they stay
    inside the folder. Raises DataError if no class folder holds audio.
    """
    top = unwrap(root)
    clips, left_out = [], []
    for path in sorted(p for p in top.rglob("*") if p.is_file() and not is_hidden(p.relative_to(top))):
        parts = path.relative_to(top).parts
        name = "/".join(parts)
        if len(parts) == 1 and path.suffix.lower() not in AUDIO_SUFFIXES:
            continue  # a README or the card
        reason = _reason(name)
        if reason is None and path.is_symlink() and not path.resolve().is_relative_to(top.resolve()):
            reason = "a link that leads outside the folder; copy the file here"
        if reason:
            left_out.append((name.encode(errors="replace").decode(), reason))
        else:
            clips.append(Clip(id=name, path=path, label=composed(parts[0])))
    if not clips:
        raise DataError(
            f"{root}: no class folder with audio; lay it out as {root.name}/<class>/<clip>.wav, "
            "or give a CSV manifest with columns path,label"
        )
    return Dataset(root=root, clips=tuple(clips), left_out=tuple(left_out), **describe(top))


def _reason(name: str) -> str | None:
    """Why a file is not a clip, or None if it is one."""
    if name.encode(errors="ignore").decode() != name:
        return "file name is not Unicode; rename it"
    path = PurePosixPath(name)
    if len(path.parts) == 1:
        return "not in a class folder"
    if path.suffix.lower() not in AUDIO_SUFFIXES:
        return f"not audio ({path.suffix or 'no extension'})"
    return None


def unwrap(root: Path) -> Path:
    """Step into a single folder that holds the classes or a manifest, as in many zips; else return `root`."""
    while True:
        entries = [p for p in root.iterdir() if not is_hidden(p.relative_to(root))]
        if len(entries) != 1 or not entries[0].is_dir():
            return root
        below = [p for p in entries[0].iterdir() if p.is_dir() and not is_hidden(p.relative_to(root))]
        if len(below) < 2 and not (entries[0] / "manifest.csv").is_file():
            return root
        root = entries[0]

"""Find the level of a folder at which the classes lie, and the folders that name the parts of a split."""

from collections.abc import Sequence

from mer.audio.formats import AUDIO_SUFFIXES

__all__ = ["MANIFEST", "SPLITS", "class_level", "is_audio", "split_place"]

MANIFEST = "manifest.csv"
Parts = Sequence[str]  # the parts of a path

SPLITS = {  # names of the parts of a split, in lower case
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


def is_audio(name: str) -> bool:
    """True if a file is audio by its suffix."""
    stem, dot, suffix = name.rpartition(".")
    return bool(stem.rpartition("/")[2]) and (dot + suffix).lower() in AUDIO_SUFFIXES


def class_level(files: Sequence[str]) -> str:
    """The folder that holds the class folders or a manifest: "" for the root, else its name with a slash.

    From the root, folders are stepped into while a single one has audio in it. What lies beside it, such as a
    README or a folder of pictures, does not matter. If no level has two folders with audio, and none has a
    manifest, it is the root.

    Parameters
    ----------
    files
        Names of files, relative to the root, with forward slashes.
    """
    known = [name.split("/") for name in files if is_audio(name) or name.rpartition("/")[2] == MANIFEST]
    depth, here = 0, []
    while True:
        if [*here, MANIFEST] in known:
            break
        folders = {parts[depth] for parts in known if len(parts) > depth + 1}
        if not folders:
            return ""
        if len(folders) > 1:
            break
        here.append(folders.pop())
        depth += 1
        known = [parts for parts in known if parts[:depth] == here]
    return "".join(f"{part}/" for part in here)


def split_place(clips: Sequence[Parts]) -> int | None:
    """Which folder of each clip names its part of a split: 0 for train/<class>, 1 for <class>/train, or None.

    Parameters
    ----------
    clips
        Parts of the path of each clip, from the level of the first folders.
    """
    inside = [parts for parts in clips if len(parts) > 1]
    if all(len(parts) == 2 for parts in inside):
        return None
    for place in (0, 1):
        words = {SPLITS.get(parts[place].strip().lower()) for parts in inside if len(parts) > place + 1}
        whole = place == 0 or all(len(parts) > 2 for parts in inside)
        if whole and None not in words and {"train"} < words:
            return place
    return None

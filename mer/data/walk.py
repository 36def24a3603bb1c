"""List the files below a folder, with a reason for each one that cannot be taken."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mer.data.clips import is_hidden

__all__ = ["Found", "walk"]

OUTSIDE = "a link that leads outside the folder; copy the {} here"
AROUND = "a link to a folder around it"
AGAIN = "a link to a folder that another link leads to"
NOT_FOLLOWED = "a link to a folder; give that folder itself"


@dataclass(slots=True)
class Found:
    """What is below a folder. Names are relative to it, with forward slashes; those of folders end in one.

    Parameters
    ----------
    files
        Names of regular files, sorted by folder.
    left_out
        (name, reason) of other entries.
    empty
        Names of folders without entries.
    """

    files: list[str] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)


def walk(root: Path, *, linked_folders: bool = True) -> Found:
    """List what is below `root`, without hidden files and those that operating systems add.

    Links are followed if they stay inside the folder. A folder is followed through one link at most, so loops
    of links end.

    Parameters
    ----------
    root
        The folder.
    linked_folders
        Whether links to folders are followed.

    Raises
    ------
    OSError
        If `root` itself cannot be read. A folder below it is then in `left_out`.
    """
    found, inside, followed = Found(), root.resolve(), set()
    waiting = [""]
    while waiting:
        name = waiting.pop()
        try:
            entries = sorted(os.scandir(root / name), key=lambda entry: entry.name)
        except OSError as error:
            if not name:
                raise
            found.left_out.append((_shown(name), f"unreadable: {error.strerror}"))
            continue
        entries = [entry for entry in entries if not is_hidden(Path(entry.name))]
        if name and not entries:
            found.empty.append(_shown(name))
        waiting += _sorted_in(found, name, entries, inside, followed, linked_folders=linked_folders)
    found.files.sort(key=lambda name: name.split("/"))
    found.left_out.sort()
    return found


def _sorted_in(
    found: Found,
    above: str,
    entries: list[os.DirEntry],
    inside: Path,
    followed: set[Path],
    *,
    linked_folders: bool,
) -> Iterator[str]:
    """Add the entries of one folder to `found`; yields the names of folders to look into."""
    for entry in entries:
        name = above + entry.name
        folder, reason = _is_folder(entry), _fault(entry)
        if folder and not reason and entry.is_symlink():
            reason = _link_fault(entry, inside, followed) if linked_folders else NOT_FOLLOWED
        elif not reason and entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(inside):
            reason = OUTSIDE.format("file")
        if reason:
            found.left_out.append((_shown(f"{name}/" if folder else name), reason))
        elif folder:
            yield f"{name}/"
        else:
            found.files.append(name)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links
        return False


def _fault(entry: os.DirEntry) -> str | None:
    """Why an entry is neither a file nor a folder that can be named, or None."""
    if _shown(entry.name) != entry.name:
        return "file name is not Unicode; rename it"
    try:
        if entry.is_dir() or entry.is_file():
            return None
        return "a link that leads nowhere" if entry.is_symlink() else "not a regular file"
    except OSError as error:
        return f"unreadable: {error.strerror}"


def _link_fault(entry: os.DirEntry, inside: Path, followed: set[Path]) -> str | None:
    """Why a link to a folder is not followed, or None; it then counts as followed."""
    target = Path(entry.path).resolve()
    if not target.is_relative_to(inside):
        return OUTSIDE.format("folder")
    if Path(entry.path).parent.resolve().is_relative_to(target):
        return AROUND
    if target in followed:
        return AGAIN
    followed.add(target)
    return None


def _shown(name: str) -> str:
    """The name, with a question mark for each part of it that is not Unicode."""
    return name.encode(errors="replace").decode()

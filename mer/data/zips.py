"""Unpack a zip with one folder per class under MER_HOME. Nothing that the zip declares is trusted."""

import io
import shutil
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

from mer.audio.formats import AUDIO_SUFFIXES
from mer.data.clips import is_hidden
from mer.utils.errors import DataError, StorageError
from mer.utils.files import hash_of_file, home, new_folder
from mer.utils.text import fitting

__all__ = ["unpack_zip"]

MAX_LIST = 16 * 2**20  # bytes of the list of entries, which is read at once: 46 plus the name for each
MAX_ENTRIES = 200_000
MAX_UNPACKED = 64 * 2**30
MOST_RATIO = 100  # unpacked to packed size; music shrinks to a half, silence to a thousandth
FREE = 256 * 2**20  # bytes; totals up to this are not checked against MOST_RATIO
MAX_DEPTH, MAX_PATH = 32, 2000  # folders, bytes; file systems allow 4096 bytes with the folders above
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # bzip2 and LZMA can fill the memory from a few bytes
DAMAGED = (
    zipfile.BadZipFile,
    EOFError,
    UnicodeDecodeError,
    OverflowError,
    ValueError,
    struct.error,
    zlib.error,
)
KEPT_FILES = {"manifest.csv", "dataset.json"}


class _Bounded(io.BufferedReader):
    """A zip file's bytes. It limits the list of entries, which zipfile reads in one call."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_LIST:
            raise DataError(f"{self.name} lists more than {MAX_LIST >> 20} MB of entries; split it")
        return super().read(size)


def unpack_zip(path: Path) -> Path:
    """Unpack audio, manifest.csv and dataset.json of a zip under MER_HOME, and return the folder.

    The same content is unpacked only once. Names are kept, except that they are composed (Unicode NFC) and
    cut to 255 bytes, which file systems need. A link becomes a small file with the name of its target, not
    audio.

    Raises
    ------
    DataError
        If the zip is damaged, too large or without audio, unpacks to too much, or holds names that point
        outside or coincide.
    StorageError
        If there is no room.
    """
    target = home() / "datasets" / hash_of_file(path)[:20] / path.stem
    if target.is_dir():
        return target
    try:
        with _Bounded(io.FileIO(path)) as file, zipfile.ZipFile(file) as archive:
            members = _members(archive, path)
            with new_folder(target) as folder:
                _require_room(sum(member.file_size for member in members.values()), folder, path)
                for name, member in members.items():
                    out = folder / name
                    out.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(member) as source, out.open("wb") as sink:
                        shutil.copyfileobj(source, sink)  # never more bytes than the list says
    except (*DAMAGED, NotImplementedError, RuntimeError) as error:  # RuntimeError: a password
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not a whole zip ({error}); fetch or pack it again") from error
    return target


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """Map paths in the folder to entries to unpack. Raises DataError if any name points outside it."""
    members = archive.infolist()
    if len(members) > MAX_ENTRIES:
        raise DataError(f"{path} has {len(members)} entries; at most {MAX_ENTRIES} are unpacked")
    chosen: dict[str, zipfile.ZipInfo] = {}
    seen = set()
    for member in members:
        name = PureWindowsPath(member.filename)  # accepts / and \ as separators, and drives
        if name.anchor or ".." in name.parts:
            raise DataError(f"{path} holds {_short(member)}, which points outside it; pack it again")
        wanted = name.suffix.lower() in AUDIO_SUFFIXES or name.name in KEPT_FILES
        if not wanted or member.is_dir() or is_hidden(Path(*name.parts)):
            continue
        place = fitting("/".join(name.parts))
        if len(name.parts) > MAX_DEPTH or len(place.encode()) > MAX_PATH:
            raise DataError(f"{path} holds {_short(member)}, a path too long or too deep; pack it flatter")
        if place.casefold() in seen:
            raise DataError(
                f"{path} holds {_short(member)} twice, but for capitals or accents; rename one of them"
            )
        if member.compress_type not in METHODS:
            raise DataError(f"{path} is packed in a way other than deflate, the usual one; pack it again")
        seen.add(place.casefold())
        chosen[place] = member
    if not chosen:
        raise DataError(f"{path} holds no audio; expected <class>/<clip>.wav inside")
    for name in {str(parent) for place in seen for parent in PurePosixPath(place).parents} & seen:
        raise DataError(f"{path} holds {name!r} as a file and as a folder; rename one of them")
    _require_plausible(sum(member.file_size for member in chosen.values()), path)
    return chosen


def _short(member: zipfile.ZipInfo) -> str:
    name = member.filename
    return repr(name if len(name) <= 120 else f"{name[:60]}...{name[-40:]}")


def _require_plausible(total: int, path: Path) -> None:
    """Raise DataError if `total` unpacked bytes are too many for music in a zip of this size."""
    if total > MAX_UNPACKED:
        raise DataError(f"{path} unpacks to {total / 2**30:.0f} GB; at most {MAX_UNPACKED >> 30} are allowed")
    if total > max(FREE, MOST_RATIO * path.stat().st_size):
        times = total / path.stat().st_size
        raise DataError(f"{path} unpacks to {times:.0f} times its size, which no music does; pack it again")


def _require_room(total: int, folder: Path, path: Path) -> None:
    free = shutil.disk_usage(folder).free
    if total > free:
        raise StorageError(
            f"{path} unpacks to {total / 2**20:.0f} MB, and {home()} has {free / 2**20:.0f} MB left; "
            "free some space, or set MER_HOME to a place with more"
        )

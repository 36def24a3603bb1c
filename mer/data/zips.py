"""Unpack a zip with one folder per class under MER_HOME. Nothing that the zip declares is trusted."""

import io
import json
import shutil
import struct
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path, PurePosixPath, PureWindowsPath

from mer.data.clips import is_hidden
from mer.data.folders import USED, first_reasons, suffix_fault
from mer.data.levels import is_audio
from mer.utils.errors import DataError, StorageError
from mer.utils.files import hash_of_file, home, new_folder, read_kept, write_atomic
from mer.utils.text import fitting

__all__ = ["left_in_zip", "unpack_zip"]

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
UTF_8 = 0x800  # the flag of an entry whose name is in UTF-8
UNICODE_NAME = 0x7075  # the extra field in which Info-ZIP gives the name in UTF-8


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
    digest = hash_of_file(path)[:20]
    plain, renamed = (home() / "datasets" / key / path.stem for key in (digest, f"{digest}-renamed"))
    for target in (plain, renamed):
        if target.is_dir() and _record(target).is_file():
            return target
    try:
        with _Bounded(io.FileIO(path)) as file, zipfile.ZipFile(file) as archive:
            members, left = _members(archive, path)
            # older versions did not rename, and may have unpacked this zip without a record
            target = renamed if any(_name(one) != one.filename for one in members.values()) else plain
            if not target.is_dir():
                _unpack(archive, members, target, path)
    except (*DAMAGED, NotImplementedError, RuntimeError) as error:  # RuntimeError: a password
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not a whole zip ({error}); fetch or pack it again") from error
    with suppress(StorageError):  # a home that may only be read
        write_atomic(_record(target), json.dumps(left))
    return target


def left_in_zip(folder: Path) -> tuple[tuple[str, str], ...]:
    """(name, reason) of each file of a zip that was not unpacked to `folder`; empty for other folders."""
    if not folder.is_relative_to(home() / "datasets"):
        return ()
    return read_kept(_record(folder), lambda rows: tuple((str(name), str(why)) for name, why in rows)) or ()


def _record(folder: Path) -> Path:
    """The file beside an unpacked folder that lists the files that were not unpacked."""
    return folder.with_name(f"{folder.name}.left_out.json")


def _unpack(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], target: Path, path: Path) -> None:
    """Write the entries to the new folder `target`."""
    with new_folder(target) as folder:
        _require_room(sum(member.file_size for member in members.values()), folder, path)
        for name, member in members.items():
            out = folder / name
            out.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, out.open("wb") as sink:
                shutil.copyfileobj(source, sink)  # never more bytes than the list says


def _members(
    archive: zipfile.ZipFile, path: Path
) -> tuple[dict[str, zipfile.ZipInfo], list[tuple[str, str]]]:
    """Entries to unpack by their paths in the folder, and (name, reason) of the other files.

    Raises DataError if any name points outside the folder.
    """
    members = archive.infolist()
    if len(members) > MAX_ENTRIES:
        raise DataError(f"{path} has {len(members)} entries; at most {MAX_ENTRIES} are unpacked")
    chosen: dict[str, zipfile.ZipInfo] = {}
    seen, left = set(), []
    for member in members:
        name = PureWindowsPath(_name(member))  # accepts / and \ as separators, and drives
        if name.anchor or ".." in name.parts:
            raise DataError(f"{path} holds {_short(member)}, which points outside it; pack it again")
        if member.is_dir() or is_hidden(Path(*name.parts)):
            continue
        place = fitting("/".join(name.parts))
        if not (is_audio(name.name) or name.name in USED):
            left.append((place, suffix_fault(name.name)))
            continue
        _require_new(place, member, seen, path)
        seen.add(place.casefold())
        chosen[place] = member
    if not chosen:
        raise DataError(
            f"{path} holds no audio; expected <class>/<clip>.wav inside{first_reasons(sorted(left))}"
        )
    for name in {str(parent) for place in seen for parent in PurePosixPath(place).parents} & seen:
        raise DataError(f"{path} holds {name!r} as a file and as a folder; rename one of them")
    _require_plausible(sum(member.file_size for member in chosen.values()), path)
    return chosen, left


def _require_new(place: str, member: zipfile.ZipInfo, seen: set[str], path: Path) -> None:
    """Raise DataError unless an entry can be unpacked to the path `place`, which none before it has."""
    if place.count("/") >= MAX_DEPTH or len(place.encode()) > MAX_PATH:
        raise DataError(f"{path} holds {_short(member)}, a path too long or too deep; pack it flatter")
    if place.casefold() in seen:
        raise DataError(
            f"{path} holds {_short(member)} twice, but for capitals or accents; rename one of them"
        )
    if member.compress_type not in METHODS:
        raise DataError(f"{path} is packed in a way other than deflate, the usual one; pack it again")


def _name(member: zipfile.ZipInfo) -> str:
    """The name of an entry as it was meant.

    Info-ZIP and macOS write UTF-8 without the flag that says so; zipfile reads such names as code page 437.
    """
    if member.flag_bits & UTF_8 or member.filename.isascii():
        return _unicode_name(member) or member.filename
    try:
        return _unicode_name(member) or member.filename.encode("cp437").decode()
    except UnicodeError:
        return member.filename


def _unicode_name(member: zipfile.ZipInfo) -> str | None:
    """The name in the extra field of Info-ZIP, if there is one and it belongs to this entry's name."""
    rest = member.extra
    while len(rest) >= 4:
        kind, size = struct.unpack("<HH", rest[:4])
        data, rest = rest[4 : 4 + size], rest[4 + size :]
        if kind == UNICODE_NAME and len(data) > 5 and data[0] == 1:
            raw = member.orig_filename.encode("utf-8" if member.flag_bits & UTF_8 else "cp437")
            if zlib.crc32(raw) == int.from_bytes(data[1:5], "little"):
                return data[5:].decode().split("\0")[0]
    return None


def _short(member: zipfile.ZipInfo) -> str:
    name = _name(member)
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

"""Read the clips of a Parquet manifest, from its folder or from URLs that the user has allowed.

URLs are read by fsspec. A manifest may come from someone else. Unless the user allows URLs, it can name only
files in its own folder: no other path on this machine, and no address that only this machine can reach.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import unquote

from mer.utils.errors import AudioError, DataError, reason_of
from mer.utils.text import spellings

__all__ = ["Sources", "is_url"]

MOST_BYTES = 2**30  # largest file; an hour of 16-bit stereo at 44.1 kHz has 635 MB
SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
ROOTED = re.compile("/|[A-Za-z]:")  # an absolute path, also on Windows
LOCAL = {"file", "local"}  # schemes for files on this machine; these must be given as paths


def is_url(name: str) -> bool:
    """True if fsspec would treat a name as a URL."""
    return SCHEME.match(name) is not None


@dataclass(frozen=True, slots=True)
class Sources:
    """Clips at relative paths below `root`, or at URLs below one of `allowed`, each ending in "/"."""

    root: Path
    allowed: tuple[str, ...] = ()

    @classmethod
    def of(cls, root: Path, allowed: tuple[str, ...] = ()) -> Self:
        """Check the allowed URLs. Raises DataError if one is invalid, or fsspec cannot read its kind."""
        return cls(root, tuple(_checked(url) for url in allowed))

    def require(self, name: str, where: str) -> None:
        """Raise DataError unless a manifest may name this clip. `where` is the line, for the message."""
        if is_url(name):
            if not name.startswith(self.allowed) or _leads_out(name):
                raise DataError(
                    f"{where}: {name!r} is not below a URL that may be read; "
                    f"if you trust this manifest, allow it with --from {_server_of(name)}"
                )
        elif "\0" in name or ROOTED.match(name) or _leads_out(name):
            raise DataError(
                f"{where}: {name!r} points outside {self.root}; put the clips beside the manifest"
            )

    def read(self, name: str) -> bytes:
        """The bytes of a clip that `require` has accepted.

        Raises AudioError if the file is missing, unreadable or too large, and DataError if a server fails, in
        which case trying again may help.
        """
        content = self._read_url(name) if is_url(name) else self._read_file(name)
        if len(content) > MOST_BYTES:
            raise AudioError(f"larger than {MOST_BYTES >> 20} MB")
        return content

    def _read_file(self, name: str) -> bytes:
        for form in spellings(name):
            path = self.root / form
            try:
                if not path.resolve().is_relative_to(self.root.resolve()):
                    raise AudioError("a link that leads outside the folder; copy the file here")
                with path.open("rb") as file:
                    return file.read(MOST_BYTES + 1)
            except FileNotFoundError:
                continue
            except (OSError, RuntimeError) as error:  # RuntimeError: a loop of symbolic links
                raise AudioError(f"unreadable: {getattr(error, 'strerror', None) or error}") from error
        raise AudioError("no such file")

    def _read_url(self, url: str) -> bytes:
        from fsspec.core import url_to_fs

        try:
            system, path = url_to_fs(url)
            return system.cat_file(path, start=0, end=MOST_BYTES + 1)
        except FileNotFoundError as error:
            raise AudioError("no such file") from error
        except Exception as error:  # each file system of fsspec raises its own errors
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            raise DataError(
                f"{url} cannot be read ({reason}); when that is solved, try again: finished shards are kept"
            ) from error


def _leads_out(name: str) -> bool:
    """True if a name could lead out of its folder, or chains file systems (fsspec's "::")."""
    plain = unquote(unquote(name))  # a proxy may decode it once and a server again
    return ".." in re.split(r"[/\\]", plain) or "::" in name or "\\" in name


def _server_of(name: str) -> str:
    """The part of a URL up to its server or bucket."""
    scheme, _, rest = name.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}/"


def _checked(url: str) -> str:
    """An allowed URL, ending in "/". Raises DataError if it is invalid."""
    found = SCHEME.match(url)
    if not found or not url[found.end() :].strip("/") or found[1].lower() in LOCAL or _leads_out(url):
        raise DataError(f"--from {url!r} should be the beginning of URLs, such as s3://bucket/music/")
    from fsspec import get_filesystem_class

    try:
        get_filesystem_class(found[1])
    except (ImportError, ValueError) as error:
        raise DataError(f"--from {url!r}: {reason_of(error)}") from error
    return f"{url.rstrip('/')}/"

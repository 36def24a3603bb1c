"""Where the clips of a long manifest lie: in its folder, or below URLs that whoever prepares them has named.

URLs are read by fsspec. A manifest is written by others, so of itself it can name nothing outside its folder:
neither a path of this machine nor an address that only this machine can reach.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import unquote

from mer.utils.errors import AudioError, DataError
from mer.utils.text import spellings

__all__ = ["Sources", "is_url"]

MOST_BYTES = 2**30  # of one file; an hour of 16-bit stereo at 44.1 kHz has 635 MB
SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
ROOTED = re.compile("/|[A-Za-z]:")  # a whole path, of Windows too
LOCAL = {"file", "local"}  # paths of this machine are given as paths


def is_url(name: str) -> bool:
    """True for what fsspec would take for an address."""
    return SCHEME.match(name) is not None


@dataclass(frozen=True, slots=True)
class Sources:
    """Clips by relative paths below `root`, or by URLs below one of `allowed`, each of which ends in "/"."""

    root: Path
    allowed: tuple[str, ...] = ()

    @classmethod
    def of(cls, root: Path, allowed: tuple[str, ...] = ()) -> Self:
        """Raises DataError for what is no URL to read below, or cannot be read here."""
        return cls(root, tuple(_checked(url) for url in allowed))

    def require(self, name: str, where: str) -> None:
        """Raise DataError if a manifest may not name that clip."""
        if is_url(name):
            if not name.startswith(self.allowed) or _climbs(name):
                raise DataError(
                    f"{where}: {name!r} is below no URL that may be read; "
                    f"name it, if you trust this manifest: --from {_beginning(name)}"
                )
        elif "\0" in name or ROOTED.match(name) or _climbs(name):
            raise DataError(
                f"{where}: {name!r} points outside {self.root}; put the clips beside the manifest"
            )

    def read(self, name: str) -> bytes:
        """The bytes of a clip that may be named.

        Raises AudioError if it is not there or too large, and DataError where a server fails: then trying
        again may help.
        """
        content = self._fetched(name) if is_url(name) else self._local(name)
        if len(content) > MOST_BYTES:
            raise AudioError(f"larger than {MOST_BYTES >> 20} MB")
        return content

    def _local(self, name: str) -> bytes:
        for form in spellings(name):
            path = self.root / form
            try:
                if not path.resolve().is_relative_to(self.root.resolve()):
                    raise AudioError("a link that leads outside the folder; copy the file here")
                with path.open("rb") as file:
                    return file.read(MOST_BYTES + 1)
            except FileNotFoundError:
                continue
            except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
                raise AudioError(f"unreadable: {getattr(error, 'strerror', None) or error}") from error
        raise AudioError("no such file")

    def _fetched(self, url: str) -> bytes:
        from fsspec.core import url_to_fs

        try:
            system, path = url_to_fs(url)
            return system.cat_file(path, start=0, end=MOST_BYTES + 1)
        except FileNotFoundError as error:
            raise AudioError("no such file") from error
        except Exception as error:  # each file system of fsspec raises errors of its own
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            raise DataError(
                f"{url} cannot be read ({reason}); see to that, then try again: what is done is kept"
            ) from error


def _climbs(name: str) -> bool:
    """True for what leads out of the place that it seems to be in, or chains file systems."""
    plain = unquote(unquote(name))  # a proxy may take one layer of it off, a server the next
    return ".." in re.split(r"[/\\]", plain) or "::" in name or "\\" in name


def _beginning(name: str) -> str:
    """The address of the server or bucket of a URL."""
    scheme, _, rest = name.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}/"


def _checked(url: str) -> str:
    """A URL to read below, ending in "/"."""
    found = SCHEME.match(url)
    if not found or not url[found.end() :].strip("/") or found[1].lower() in LOCAL or _climbs(url):
        raise DataError(f"--from {url!r} should be the beginning of URLs, such as s3://bucket/music/")
    from fsspec import get_filesystem_class

    try:
        get_filesystem_class(found[1])
    except (ImportError, ValueError) as error:
        raise DataError(f"--from {url!r}: {str(error).splitlines()[0]}") from error
    return f"{url.rstrip('/')}/"

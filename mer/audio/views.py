"""A part of a file as a file, for decoders that start reading at its first byte."""

from contextlib import suppress
from typing import BinaryIO

__all__ = ["View"]


class View:
    """A file from its byte `begin` on. A seek to an impossible place is ignored."""

    def __init__(self, file: BinaryIO, begin: int) -> None:
        self.file, self.begin = file, begin
        self.seek(0)

    def tell(self) -> int:
        """The place in the view."""
        return self.file.tell() - self.begin

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move, if the place is possible."""
        with suppress(OSError, ValueError):
            self.file.seek(offset + (0 if whence else self.begin), whence)
        return self.tell()

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes."""
        return self.file.read(size)

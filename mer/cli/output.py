"""Output of commands: JSON or tables on standard output, progress and errors on standard error."""

import codecs
import io
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from mer.utils.progress import ProgressMeter
from mer.utils.text import visible

__all__ = ["STOPPED", "Bars", "emit", "error_line", "print_anything", "table"]

STOPPED = 130  # exit status of a command that was stopped
BETWEEN_LINES = 0.5  # s, if standard error is not a terminal


def print_anything() -> None:
    """Let standard output and error print any text in any encoding, such as Hindi names in cp1252.

    Characters that the encoding lacks become the escapes of JSON, so JSON keeps its meaning.
    """
    codecs.register_error("mer.escape", _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="mer.escape")


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def emit(data: Any, *, as_json: bool, text: str) -> None:
    """Print the result of a command on standard output. Control characters are escaped.

    Parameters
    ----------
    data
        Plain data for JSON.
    as_json
        Print `data` as one line of JSON instead of `text`.
    text
        The result for people.
    """
    print(visible(json.dumps(data, ensure_ascii=False)) if as_json else visible(text, keep="\n"))


def _progress_as_json() -> bool:
    return os.environ.get("MER_PROGRESS") == "json"


def error_line(error: object) -> str:
    """The line that reports an error on standard error."""
    return json.dumps({"error": str(error)}) if _progress_as_json() else f"error: {error}"


def table(rows: Sequence[Sequence[Any]], header: Sequence[str]) -> str:
    """Format rows as text with left-aligned columns, below a header."""
    cells = [[visible(str(cell)) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join(lines)


class Bars:
    """Progress on standard error: a bar per titled phase on a terminal, else at most two lines a second."""

    def __init__(self) -> None:
        self.bar: tqdm | None = None
        self.title, self.done, self.last = "", 0, float("-inf")
        self.meter = ProgressMeter()

    def __call__(self, title: str, done: int, total: int) -> None:
        """Show that `done` of `total` are done. With a total of 0, show only the title, once."""
        if total and sys.stderr.isatty() and not _progress_as_json():
            self._draw(title, done, total)
        else:
            self._print(title, done, total)

    def _print(self, title: str, done: int, total: int) -> None:
        report = self.meter(title, done, total)
        new, last = title != self.title, total and done == total
        if new or last or (total and time.monotonic() - self.last >= BETWEEN_LINES):
            self.title, self.last = title, time.monotonic()
            print(report.to_json() if _progress_as_json() else report, file=sys.stderr, flush=True)

    def _draw(self, title: str, done: int, total: int) -> None:
        if self.bar is None or self.title != title:
            self.title, self.done = title, 0
            self.bar = tqdm(desc=title, total=total, unit="", file=sys.stderr)
        self.bar.update(done - self.done)
        self.done = done
        if done == total:
            self.bar.close()
            self.bar = None

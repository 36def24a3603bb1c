"""What commands print: JSON or tables on standard output, progress bars on standard error."""

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from mer.utils.progress import Pace
from mer.utils.text import visible

__all__ = ["Bars", "emit", "table"]


def emit(data: Any, *, as_json: bool, text: str) -> None:
    """Print `data` as one line of JSON, or `text` for people; names in it cannot command the terminal."""
    print(visible(json.dumps(data, ensure_ascii=False)) if as_json else visible(text, keep="\n"))


def table(rows: Sequence[Sequence[Any]], header: Sequence[str]) -> str:
    """Left-aligned columns."""
    cells = [[visible(str(cell)) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join(lines)


class Bars:
    """A progress bar for each titled phase; where standard error is no terminal, a line twice a second."""

    def __init__(self) -> None:
        self.bar: tqdm | None = None
        self.title, self.done, self.told = "", 0, 0.0
        self.pace = Pace()

    def __call__(self, title: str, done: int, total: int) -> None:
        """Show that `done` of `total` are done."""
        if sys.stderr.isatty():
            self._draw(title, done, total)
            return
        line = self.pace(title, done, total)
        if done == total or time.monotonic() - self.told >= 0.5:
            self.told = time.monotonic()
            print(line, file=sys.stderr, flush=True)

    def _draw(self, title: str, done: int, total: int) -> None:
        if self.bar is None or self.title != title:
            self.title, self.done = title, 0
            self.bar = tqdm(desc=title, total=total, unit="clip", file=sys.stderr)
        self.bar.update(done - self.done)
        self.done = done
        if done == total:
            self.bar.close()
            self.bar = None

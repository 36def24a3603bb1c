"""CSV text that is safe to open in a spreadsheet."""

import csv
import io
from collections.abc import Sequence
from typing import Any

__all__ = ["as_csv"]


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Rows with the same keys as CSV text. Cells that would run as formulas get an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out)  # its line ends are CR LF, so it quotes cells that contain either
    for row in [list(rows[0]), *(row.values() for row in rows)] if rows else []:
        writer.writerow(_tame(value) for value in row)
    return out.getvalue()


def _tame(value: Any) -> Any:
    risky = isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r")
    return f"'{value}" if risky else value

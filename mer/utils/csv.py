"""CSV text that is safe to open in a spreadsheet."""

import csv
import io
from collections.abc import Sequence
from typing import Any

__all__ = ["as_csv"]


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Write rows as CSV text, with their keys as the first line.

    An apostrophe is put before text that a spreadsheet would run as a formula.

    Parameters
    ----------
    rows
        Rows that all have the same keys in the same order. Without rows the text is empty.
    """
    out = io.StringIO()
    writer = csv.writer(out)  # its line ends are CR LF, so it quotes cells that contain either
    for row in [list(rows[0]), *(row.values() for row in rows)] if rows else []:
        writer.writerow(_without_formula(value) for value in row)
    return out.getvalue()


def _without_formula(value: Any) -> Any:
    risky = isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r")
    return f"'{value}" if risky else value

"""Read a Parquet manifest of any length: columns `path`, `label` and optionally `song` and `split`.

It is read some thousand lines at a time and never held in memory as a whole. Paths are relative to the
manifest's folder, or URLs (see `mer.data.shards.sources`). Reading the manifest does not check that the files
exist.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mer.data.manifest import line_fault, require_columns, split_of
from mer.data.shards.sources import Sources, is_url
from mer.utils.errors import DataError, reason_of
from mer.utils.text import composed

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Lines", "read_lines"]

AT_ONCE = 2**14  # lines
BUFFER = 2**20  # bytes per column; without a buffer, pyarrow reads a whole row group, which can be very large


@dataclass(slots=True)
class Lines:
    """A batch of lines, column by column. `left_out` has (file, reason) of lines without a usable clip."""

    names: list[str]
    labels: list[str]
    songs: list[str | None]
    splits: list[str | None]
    left_out: list[tuple[str, str]]


def read_lines(path: Path, sources: Sources, *, label_column: str, song_column: str) -> Iterator[Lines]:
    """The lines of a manifest in order, in batches of some thousand.

    Parameters
    ----------
    path
        The Parquet file.
    sources
        The places that paths may point to.
    label_column, song_column
        Names of columns.

    Raises
    ------
    DataError
        If the file is not Parquet, a column is missing, a path is not allowed, or a split is unknown.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER) as file:
            columns = file.schema_arrow.names
            require_columns(path, columns, ["path", label_column, *({song_column} - {"song"})])
            wanted = [name for name in ("path", label_column, song_column, "split") if name in columns]
            first = 1
            for batch in file.iter_batches(AT_ONCE, columns=list(dict.fromkeys(wanted))):
                yield _lines(path, sources, batch, first, label_column, song_column)
                first += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        reason = reason_of(error, 200)
        raise DataError(
            f"{path} cannot be read as Parquet ({reason}); write it again, as pandas' to_parquet does"
        ) from error


def _texts(batch: "pa.RecordBatch", name: str) -> list[str]:
    """A column as stripped text; empty strings for missing values or a missing column."""
    import pyarrow as pa

    if name not in batch.schema.names:
        return [""] * batch.num_rows
    return [(text or "").strip() for text in batch.column(name).cast(pa.string()).to_pylist()]


def _lines(
    path: Path, sources: Sources, batch: "pa.RecordBatch", first: int, label_column: str, song_column: str
) -> Lines:
    """Check a batch of lines; `first` is the number of its first line."""
    found = Lines([], [], [], [], [])
    columns = [_texts(batch, name) for name in ("path", label_column, song_column, "split")]
    for number, (name, label, song, split) in enumerate(zip(*columns, strict=True), first):
        name = name if is_url(name) else name.replace("\\", "/")
        label, song = composed(label), composed(song) or None
        if reason := line_fault(name, label, song, labelled=bool(label)):
            found.left_out.append((name, reason))
            continue
        sources.require(name, f"{path}, line {number}")
        found.names.append(name)
        found.labels.append(label)
        found.songs.append(song)
        found.splits.append(split_of(split, f"{path}, line {number}"))
    return found

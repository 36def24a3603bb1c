"""Products with a matrix whose rows are zero but for a short stretch that moves along: filter banks.

A mel filter covers a few of hundreds of frequencies, one phase of a resampling filter a few of hundreds of
samples. Cut into bands of rows that need nearly the same columns, the product skips most zeros.
"""

import torch

__all__ = ["Band", "bands", "times"]

Band = tuple[int, torch.Tensor]

ROWS = 16  # of a band
NOTHING = 1e-9  # share of the largest value below which a value counts as zero


def bands(matrix: torch.Tensor) -> tuple[Band, ...]:
    """A matrix (rows, columns) as (first column, (up to 16 rows, columns that any of them needs))."""
    found, least = [], NOTHING * float(matrix.abs().max())
    for band in matrix.split(ROWS):
        used = (band.abs() > least).any(dim=0).nonzero().flatten().tolist() or [0]
        first, last = used[0], used[-1] + 1
        found.append((first, band[:, first:last].contiguous()))
    return tuple(found)


def times(matrix: tuple[Band, ...], values: torch.Tensor) -> torch.Tensor:
    """The matrix times values (columns, n): (rows, n)."""
    return torch.cat([band @ values[first : first + band.shape[1]] for first, band in matrix])

"""Products with banded matrices, such as filter banks.

A mel filter covers a few of hundreds of frequencies, and a phase of a resampling filter a few of hundreds of
samples. Bands of rows that use nearly the same columns are multiplied together, which skips most zeros.
"""

from collections.abc import Sequence

import torch

__all__ = ["Band", "bands", "times"]

Band = tuple[int, torch.Tensor]

ROWS = 16  # per band
NOTHING = 1e-9  # values below this share of the largest count as zero


def bands(matrix: torch.Tensor) -> tuple[Band, ...]:
    """Cut a matrix (rows, columns) into bands: (first column, (up to 16 rows, columns used by any))."""
    found, least = [], NOTHING * float(matrix.abs().max())
    for band in matrix.split(ROWS):
        used = (band.abs() > least).any(dim=0).nonzero().flatten().tolist() or [0]
        first, last = used[0], used[-1] + 1
        found.append((first, band[:, first:last].contiguous()))
    return tuple(found)


def times(matrix: Sequence[Band], values: torch.Tensor) -> torch.Tensor:
    """Multiply the matrix by values (..., columns, n); returns (..., rows, n)."""
    return torch.cat([band @ values[..., first : first + band.shape[1], :] for first, band in matrix], dim=-2)

"""Products with matrices that are mostly zeros are those of the whole matrix."""

import pytest
import torch

from mer.audio.signal import ROWS, bands, times


def banded(rows, columns, width):
    """Random values along a diagonal."""
    torch.manual_seed(0)
    matrix = torch.zeros(rows, columns)
    for row in range(rows):
        first = row * (columns - width) // max(rows - 1, 1)
        matrix[row, first : first + width] = torch.rand(width) + 0.1
    return matrix


@pytest.mark.parametrize(("rows", "columns", "width"), [(160, 475, 34), (17, 20, 3), (1, 5, 5), (40, 40, 40)])
def test_the_banded_product_equals_that_of_the_whole_matrix(rows, columns, width):
    matrix, values = banded(rows, columns, width), torch.rand(columns, 7)
    assert torch.allclose(times(bands(matrix), values), matrix @ values, atol=1e-5)


def test_values_may_be_in_row_or_column_order():
    matrix, values = banded(160, 475, 34), torch.rand(475, 7)
    assert torch.allclose(times(bands(matrix), values.T.contiguous().T), matrix @ values, atol=1e-5)


def test_rows_of_zeros_give_zeros():
    matrix = banded(2 * ROWS, 50, 5)
    matrix[:ROWS] = 0
    assert torch.equal(times(bands(matrix), torch.rand(50, 3))[:ROWS], torch.zeros(ROWS, 3))


def test_most_zeros_are_left_out():
    matrix = banded(160, 475, 34)
    assert sum(band.numel() for _, band in bands(matrix)) < matrix.numel() / 4

"""Confusion matrices: their summary in words, and clicks on their cells."""

import pytest

from pages._ui.charts.confusion import cell_of, matrix, most_confused, worst_cell

CLASSES = ("Happy", "Sad", "Party")
CONFUSION = [[6, 1, 3], [2, 2, 0], [0, 0, 5]]


def drawn(shares=False, columns=CLASSES, confusion=CONFUSION):
    cells, points = matrix(confusion, CLASSES, columns, shares=shares, title="one").data
    return cells, points


def words(shares, row):
    """The texts in the cells of a row."""
    notes = matrix(CONFUSION, CLASSES, CLASSES, shares=shares, title="one").layout.annotations
    return [note.text for note in notes if note.y == row]


def test_the_worst_cell_is_the_one_with_the_largest_share_of_its_row():
    assert worst_cell(CONFUSION, CLASSES) == (1, 0)
    assert most_confused(CONFUSION, CLASSES) == "Most confused: Sad as Happy, 2 of 4."


@pytest.mark.parametrize("confusion", [[[3, 0], [0, 4]], [[0, 0], [0, 0]]])
def test_without_a_mistake_there_is_no_worst_cell(confusion):
    assert worst_cell(confusion, CLASSES[:2]) is None
    assert most_confused(confusion, CLASSES[:2]) == "No clip was misclassified."


def test_answers_outside_the_classes_are_not_called_confused():
    assert worst_cell([[1, 0, 9], [1, 3, 0]], CLASSES[:2]) == (1, 0)


def test_reading_a_matrix_does_not_change_it():
    worst_cell(CONFUSION, CLASSES)
    assert CONFUSION == [[6, 1, 3], [2, 2, 0], [0, 0, 5]]


def test_rows_are_true_from_top_to_bottom_and_columns_predicted():
    cells, _ = drawn()
    assert [list(row) for row in cells.z] == CONFUSION
    assert (list(cells.y), list(cells.x)) == (list(CLASSES), list(CLASSES))
    low, high = matrix(CONFUSION, CLASSES, CLASSES, shares=False, title="").layout.yaxis.range
    assert low > high


def test_an_invisible_point_lies_on_each_cell_and_describes_it():
    _, points = drawn()
    assert len(points.x) == len(points.y) == len(points.customdata) == 9
    for x, y, about in zip(points.x, points.y, points.customdata, strict=True):
        row = CONFUSION[CLASSES.index(y)]
        assert about == f"{y} predicted as {x}: {row[CLASSES.index(x)]} of {sum(row)}"


def test_shares_are_of_each_row():
    cells, _ = drawn(shares=True)
    assert [sum(row) for row in cells.z] == pytest.approx([1, 1, 1])
    assert words(True, row=1) == ["50%", "50%", "0%"]
    assert words(False, row=1) == ["2", "2", "0"]


def test_a_class_without_clips_has_no_share():
    cells, _ = drawn(shares=True, confusion=[[0, 0, 0], [1, 1, 0], [0, 0, 1]])
    assert list(cells.z[0]) == [0, 0, 0]


def test_a_click_gives_the_cell_under_it():
    _, points = drawn()
    clicked = {"x": points.x[1], "y": points.y[1]}
    assert cell_of({"selection": {"points": [clicked]}}) == ("Happy", "Sad")
    assert cell_of({"selection": {"points": []}}) is None

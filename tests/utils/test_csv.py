"""CSV that no spreadsheet runs."""

import csv
import io

import pytest

from mer.utils.csv import as_csv


def read(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_rows_come_back_from_the_text():
    rows = [{"clip": "दिल, 1.wav", "share": 0.25}, {"clip": 'a "b"\nc', "share": ""}]
    assert read(as_csv(rows)) == [{"clip": "दिल, 1.wav", "share": "0.25"}, {"clip": 'a "b"\nc', "share": ""}]


def test_no_rows_are_an_empty_table():
    assert read(as_csv([])) == []


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_formula_is_shown_and_not_run(formula):
    text = as_csv([{"file": formula, "share": -0.5}])
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert row == {"file": f"'{formula}", "share": "-0.5"}


def test_a_class_whose_name_is_a_formula_is_not_run_either():
    assert as_csv([{"file": "a.wav", '=HYPERLINK("x")': 0.5}]).startswith("file,\"'=HYPERLINK")

"""Progress on standard error: a bar on a terminal, whole lines anywhere else."""

import io

import pytest

from mer.cli import output
from mer.cli.output import Bars


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def said(monkeypatch):
    """`said(kind)` stands a stream in for standard error and returns it."""

    def put(kind):
        stream = kind()
        monkeypatch.setattr(output.sys, "stderr", stream)
        return stream

    return put


def test_a_pipe_gets_some_lines_of_progress_and_always_the_last(said, monkeypatch):
    clock = {"now": 100.0}
    monkeypatch.setattr(output.time, "monotonic", lambda: clock["now"])  # of `pace` too: one module
    stream, bars = said(io.StringIO), Bars()
    for done, later in ((1, 0.1), (2, 1.0), (3, 0.1), (4, 0)):
        bars("decoding", done, 4)
        clock["now"] += later
    assert stream.getvalue().splitlines() == [
        "decoding: 1 of 4",
        "decoding: 3 of 4, 1.8 a second, 1 s left",
        "decoding: 4 of 4, 2.5 a second, 0 s left",
    ]


def test_a_terminal_gets_a_bar_for_each_phase(said):
    stream, bars = said(Terminal), Bars()
    bars("decoding", 2, 2)
    bars("listening", 1, 2)
    bars("listening", 2, 2)
    assert "decoding: 100%" in stream.getvalue()
    assert "listening: 100%" in stream.getvalue()

"""Progress on standard error: a bar on a terminal, whole lines anywhere else."""

import io
import json
import os
import subprocess
import sys

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


# Any encoding


SAYS = """
import sys
from mer.cli.output import emit, error_line, print_anything
print_anything()
emit({"file": NAME}, as_json="json" in sys.argv, text=NAME)
print(error_line(NAME), file=sys.stderr)
"""
NAME = "गीत १ é 🎵 \u200d.wav"


@pytest.mark.promise("Names of any script can be written in any encoding of the output.")
@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "cp437", "utf-8", "utf-16"])
@pytest.mark.parametrize("form", ["text", "json"])
def test_names_of_any_script_can_be_written_in_any_encoding(encoding, form):
    done = subprocess.run(
        [sys.executable, "-c", f"NAME = {NAME!r}{SAYS}", form],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        check=True,
    )
    out, error = done.stdout.decode(encoding), done.stderr.decode(encoding)
    if form == "json":
        assert json.loads(out) == {"file": NAME}
    else:
        assert json.loads(f'"{out.strip()}"') == NAME
    assert json.loads(f'"{error.strip().removeprefix("error: ")}"') == NAME


def test_a_command_answers_about_a_file_with_a_hindi_name_in_a_western_encoding(tmp_path):
    folder = tmp_path / "खुशी"
    words = [sys.executable, "-m", "mer", "data", "check", str(folder)]
    done = subprocess.run(words, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "cp1252"})
    assert done.returncode == 2
    assert b"\\u0916\\u0941\\u0936\\u0940" in done.stderr
    assert b"Traceback" not in done.stderr

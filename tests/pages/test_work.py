"""Longer work for a page: a separate process, whose progress is shown and which ends with the page."""

import gc
import json
import os
import stat
import sys
import time

import psutil
import pytest

from mer.utils.errors import MerError
from mer.utils.progress import ProgressReport
from pages._ui.shell import commands as work
from pages._ui.shell.commands import run_mer
from tests.page_helpers import as_read

HEAD = f"#!{sys.executable}\nimport sys, time, json, os\n"


class Bar:
    """Keeps what is shown; leaves the page once `leave_at` is reached, as Streamlit does."""

    def __init__(self):
        self.shown, self.gone, self.leave_at = [], False, None

    def progress(self, share, text):
        self.shown.append((share, text))
        if self.leave_at is not None and share >= self.leave_at:
            raise Leave

    def empty(self):
        self.gone = True


class Leave(BaseException):
    """The exception by which Streamlit stops a page's script."""


@pytest.fixture
def bar(monkeypatch):
    bar = Bar()
    monkeypatch.setattr(work.st, "progress", lambda share, text: bar)
    return bar


@pytest.fixture
def program(tmp_path, monkeypatch):
    """program(code) makes `python -m mer` run that code instead."""

    def become(code):
        path = tmp_path / "program"
        path.write_text(HEAD + code)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(sys, "executable", str(path))

    return become


def test_the_object_that_the_command_prints_is_returned(bar, program):
    program("print(json.dumps({'words': sys.argv[1:]}))")
    assert run_mer("data", "check", "a b", title="Checking") == {
        "words": ["-m", "mer", "data", "check", "a b", "--json"]
    }
    assert bar.gone


def test_progress_is_shown_phase_by_phase_with_the_time_that_is_left(bar, program):
    reports = [
        ProgressReport("preparing clips", 1, 4),
        ProgressReport("preparing clips", 2, 4, 3.0, 7.0),
        ProgressReport("comparing", 2, 2),
    ]
    lines = ["a warning: 1 of 2", *(report.to_json() for report in reports)]
    program("".join(f"print({line!r}, file=sys.stderr, flush=True)\n" for line in lines) + "print('[]')")
    assert run_mer("x", title="Checking") == []
    assert [(share, as_read(text)) for share, text in bar.shown[-3:]] == [
        (0.25, "Checking: preparing clips: 1 of 4"),
        (0.5, "Checking: preparing clips: 2 of 4, 3.0 a second, 7 s left"),
        (1, "Checking: comparing: 2 of 2"),
    ]


def test_progress_without_a_total_is_shown_without_an_error(bar, program):
    program(f"print({ProgressReport('composing', 0, 0).to_json()!r}, file=sys.stderr)\nprint('1')")
    assert run_mer("x", title="Composing") == 1


def test_the_error_of_the_command_is_raised(bar, program):
    error = json.dumps({"error": "no such file; check"})
    program(f"print('a warning', {error!r}, sep='\\n', file=sys.stderr)\nsys.exit(2)")
    with pytest.raises(MerError, match=r"^no such file; check$"):
        run_mer("x", title="Checking")
    assert bar.gone


def test_a_command_that_fails_without_a_message_raises_an_error(bar, program):
    program("sys.exit(1)")
    with pytest.raises(MerError, match=r"^Checking failed; try again$"):
        run_mer("x", title="Checking")


def test_a_command_with_much_output_does_not_block(bar, program):
    program("print(json.dumps('x' * 3_000_000)); print('error\\n' * 100_000, file=sys.stderr)")
    assert len(run_mer("x", title="Checking")) == 3_000_000


@pytest.mark.timeout(30)
def test_leaving_the_page_ends_the_process(bar, program):
    program(
        "report = lambda title: json.dumps({'title': title, 'done': 1, 'total': 2})\n"
        "print(report(f'pid {os.getpid()}'), file=sys.stderr, flush=True)\n"
        "print(report('x'), file=sys.stderr, flush=True)\ntime.sleep(60)"
    )
    bar.leave_at = 0.5
    with pytest.raises(Leave):
        run_mer("x", title="Checking")
    pid = int(as_read(bar.shown[0][1]).split("pid ")[1].split(":")[0])
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid):
        assert time.monotonic() < deadline, "it still runs, or was never waited for"
        time.sleep(0.05)
    gc.collect()  # would warn of a process that nobody waited for
    assert bar.gone


def test_the_real_command_runs_in_any_working_directory(bar, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MerError, match="nowhere: no such file or folder"):
        run_mer("data", "check", str(tmp_path / "nowhere"), title="Checking")
    assert os.listdir(tmp_path) == []

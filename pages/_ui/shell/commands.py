"""Longer work for a page: a `mer` command in a separate process, with a progress bar.

Worker processes started from a page would run the page's script again; those of a command do not. Leaving the
page ends the process. Each file that it wrote is complete or absent.
"""

import json
import subprocess
import tempfile
import threading
from typing import Any

import streamlit as st

from mer.jobs.queue import start_mer
from mer.utils.errors import MerError
from mer.utils.progress import ProgressReport
from pages._ui.shell.style import plain

__all__ = ["run_mer"]


def run_mer(*words: str, title: str) -> Any:
    """Run `python -m mer WORDS --json`; returns the printed object. Raises MerError with its error."""
    bar = st.progress(0.0, text=f"{plain(title)} …")
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out:
        streams = {"stdout": out, "stderr": subprocess.PIPE}
        text = {"text": True, "encoding": "utf-8", "errors": "replace"}
        process = start_mer(*words, "--json", environment={"MER_PROGRESS": "json"}, **streams, **text)
        try:
            error = _show_progress(process, bar, title)
            if process.wait():
                raise MerError(error or f"{title} failed; try again")
            out.seek(0)
            return json.load(out)
        finally:
            if process.poll() is None:
                process.terminate()
                threading.Thread(
                    target=process.wait, daemon=True
                ).start()  # else the ended process would stay in the process table
            process.stderr.close()
            bar.empty()


def _show_progress(process: subprocess.Popen, bar: Any, title: str) -> str:
    """Show the progress that the process reports; returns its error, or else its last line."""
    last = ""
    for line in filter(None, map(str.strip, process.stderr)):
        if report := ProgressReport.from_json(line):
            bar.progress(report.share, text=plain(f"{title}: {report}"))
        else:
            last = _error_of(line)
    return last


def _error_of(line: str) -> str:
    """The error in a line of JSON; any other line as it is."""
    try:
        return str(json.loads(line)["error"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return line

"""Longer work on behalf of a page: a command of mer in a process of its own, with its progress.

A page cannot start worker processes itself, since they would run the page's script again; the command can.
Leaving the page ends the process, and what it wrote until then is complete or absent.
"""

import json
import re
import subprocess
import tempfile
import threading
from typing import Any

import streamlit as st

from mer.jobs.queue import start_mer
from mer.utils.errors import MerError
from pages._ui.shell.style import plain

__all__ = ["run_mer"]

PROGRESS = re.compile(r"^(?P<title>.+): (?P<done>\d+) of (?P<total>\d+)(?:, (?P<pace>.+))?$")


def run_mer(*words: str, title: str) -> Any:
    """What `python -m mer WORDS --json` prints; raises MerError with its message if it fails."""
    bar = st.progress(0.0, text=f"{plain(title)} …")
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out:
        streams = {"stdout": out, "stderr": subprocess.PIPE}
        process = start_mer(*words, "--json", **streams, text=True, encoding="utf-8", errors="replace")
        try:
            last = _follow(process, bar, title)
            if process.wait():
                raise MerError(last.removeprefix("error: ") or f"{title} failed; try again")
            out.seek(0)
            return json.load(out)
        finally:
            if process.poll() is None:
                process.terminate()
                threading.Thread(target=process.wait, daemon=True).start()  # so that it leaves no zombie
            process.stderr.close()
            bar.empty()


def _follow(process: subprocess.Popen, bar: Any, title: str) -> str:
    """Move the bar by what the process says; returns its last line."""
    last = ""
    for line in process.stderr:
        last = line.strip() or last
        found = PROGRESS.match(last)
        if not found:
            continue
        done, total = int(found["done"]), max(int(found["total"]), 1)
        words = [found["title"], f"{done} of {total}", *filter(None, [found["pace"]])]
        bar.progress(min(done / total, 1.0), text=plain(f"{title}: {', '.join(words)}"))
    return last

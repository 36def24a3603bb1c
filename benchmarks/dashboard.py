"""Rows for the dashboard: time until the home page is shown, and CPU time per viewer."""

import shutil
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks import live
from benchmarks.browser import PATIENCE, ROOT, Server, chromium
from benchmarks.rows import Bench, Measured
from benchmarks.timing import alternate

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["dashboard", "start"]

TIMES = 7


class _Visits:
    """Visits to one app, with the seconds of each by kind."""

    def __init__(self, browser: "Browser", script: Path) -> None:
        self.browser, self.script = browser, script
        self.kinds: dict[str, list[float]] = {"with the start of the server": [], "a second visitor": []}

    def first(self, home: Path) -> float:
        """Seconds from navigation to heading on a new server; also records the other times."""
        started = time.perf_counter()
        with Server(self.script, home) as server:
            waited = time.perf_counter() - started
            taken = self._visit(server)
            self.kinds["with the start of the server"].append(waited + taken)
            self.kinds["a second visitor"].append(self._visit(server))
        return taken

    def _visit(self, server: Server) -> float:
        """Seconds until a browser with an empty cache shows a heading."""
        with self.browser.new_context() as context:
            page = context.new_page()
            page.set_default_timeout(1000 * PATIENCE)
            started = time.perf_counter()
            page.goto(server.url, wait_until="commit")
            page.locator("h1").first.wait_for()
            return time.perf_counter() - started


def start(bench: Bench) -> Measured:
    """First visits to new servers in turn, ours and a script with only `st.title`."""
    empty = bench.folder("empty") / "app.py"
    empty.write_text('import streamlit as st\n\nst.title("Empty")\n')
    shutil.copytree(ROOT / ".streamlit", empty.parent / ".streamlit")  # the same settings
    with chromium() as browser:
        ours, theirs = _Visits(browser, ROOT / "streamlit_app.py"), _Visits(browser, empty)
        times = alternate(
            lambda _: ours.first(bench.folder("home")),
            lambda _: theirs.first(bench.folder("home")),
            times=TIMES,
            first=1,
        )
    details = [
        f"{kind}: {median(ours.kinds[kind]):.2f} s, the empty app {median(theirs.kinds[kind]):.2f} s"
        for kind in ours.kinds
    ]
    return Measured(*times.medians, details)


def dashboard(bench: Bench) -> Measured:
    """Share of a core with one viewer of Live, minus that without."""
    with chromium() as browser, bench.own_home() as home, Server(ROOT / "streamlit_app.py", home) as server:
        alone, watched = live.measure(server, browser.new_page())
    return Measured(watched - alone, details=[f"the server without a viewer: {alone:.1%}"])

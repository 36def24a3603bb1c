"""Starts a Streamlit server, and a Chromium to visit it."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.rows import NotMeasuredError

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["ROOT", "Server", "chromium"]

ROOT = Path(__file__).parents[1]
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PATIENCE = 90.0  # s


class Server:
    """`streamlit run SCRIPT` on a free port, as a context; `home` becomes its MER_HOME."""

    def __init__(self, script: Path, home: Path) -> None:
        self.script, self.home = script, home
        self.process: subprocess.Popen | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://localhost:{self.port}"

    def __enter__(self) -> "Server":
        options = ["--server.headless", "true", "--server.port", str(self.port)]
        self.process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "streamlit", "run", self.script.name, *options],
            cwd=self.script.parent,
            env=os.environ | {"MER_HOME": str(self.home)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                opener.open(f"{self.url}/_stcore/health", timeout=2)
            except OSError:
                time.sleep(0.05)
            else:
                return self
        self.__exit__()
        raise RuntimeError(f"the server of {self.script.name} did not answer within {PATIENCE:.0f} s")

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def chromium() -> "Iterator[Browser]":
    """Start a headless browser; raises NotMeasuredError if there is none."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        raise NotMeasuredError("no Chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise NotMeasuredError("no Playwright") from error
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()

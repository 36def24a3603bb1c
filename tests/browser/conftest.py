"""A real server and a real browser: Streamlit on a free port, Chromium driven by Playwright. Slow.

Without Playwright or Chromium these tests are skipped with the reason. Nothing but the server can be
reached: proxies point at nothing.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from mer.runs.run import Run
from mer.runs.store import RunStore

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PATIENCE = 90_000  # ms; two busy cores need it


def pytest_collection_modifyitems(items):
    """Everything here is slow, and is skipped where there is no browser."""
    here = [item for item in items if Path(item.path).is_relative_to(Path(__file__).parent)]
    for item in here:
        item.add_marker(pytest.mark.slow)
        item.add_marker(pytest.mark.timeout(900))
        if CHROMIUM is None:
            item.add_marker(pytest.mark.skip(reason="no Chromium here: apt-get install chromium"))


class Server:
    """`streamlit run streamlit_app.py` in a home of its own; can be killed and started again."""

    def __init__(self, home: Path) -> None:
        self.home, self.process = home, None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://localhost:{self.port}"
        no_network = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
        self.settings = os.environ | no_network | {"MER_HOME": str(home), "TORCH_HOME": str(home / "torch")}

    def start(self) -> "Server":
        command = [sys.executable, "-m", "streamlit", "run", "streamlit_app.py"]
        options = ["--server.headless", "true", "--server.port", str(self.port)]
        with (self.home.parent / f"server-{self.port}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *options], cwd=ROOT, env=self.settings, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 60
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while time.monotonic() < deadline:
            try:
                opener.open(f"{self.url}/_stcore/health", timeout=2)
            except OSError:
                time.sleep(0.2)
            else:
                return self
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        """As `kill -9` does: nothing is told, nothing is tidied."""
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def runs(self) -> dict[str, Run]:
        """The runs in the same home by id, newest first; read here, as a command takes seconds to start."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MER_HOME", str(self.home))
            patch.delenv("MLFLOW_TRACKING_URI", raising=False)
            return {run.id: run for run in RunStore.open().runs()}

    def mer(self, *words: str) -> dict:
        """What a command prints, in the same home."""
        command = [sys.executable, "-m", "mer", *map(str, words), "--json"]
        done = subprocess.run(command, cwd=ROOT, env=self.settings, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def empty_server(tmp_path_factory):
    """A server on an empty MER_HOME."""
    server = Server(tmp_path_factory.mktemp("empty") / "home").start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def furnished(tmp_path_factory):
    """A home, only to be copied, that knows a small demo corpus and has one finished run on it."""
    server = Server(tmp_path_factory.mktemp("furnished") / "home")
    data = server.home / "data" / "demo"
    server.mer("data", "demo", "--out", data, "--clips-per-class", "8")
    code = f"from mer.data.library import add; add({str(data)!r}, source='demo')"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=server.settings, check=True)
    server.mer("train", "--data", data, "--preset", "quick", "--epochs", "2")
    return server.home


@pytest.fixture(scope="module")
def server(tmp_path_factory, furnished):
    """A server on a copy of the furnished home."""
    home = tmp_path_factory.mktemp("dashboard") / "home"
    shutil.copytree(furnished, home)
    server = Server(home).start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def browsing():
    """`with browsing(*flags, **context) as page`: a page of a new profile, in a browser with these flags."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with playwright.sync_playwright() as driver:
        browsers = {}

        @contextmanager
        def new_page(*flags, **context):
            if flags not in browsers:
                browsers[flags] = driver.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *flags])
            profile = browsers[flags].new_context(viewport={"width": 1440, "height": 1000}, **context)
            profile.set_default_timeout(PATIENCE)
            try:
                yield profile.new_page()
            finally:
                profile.close()

        yield new_page
        for browser in browsers.values():
            browser.close()


@pytest.fixture
def page(browsing):
    """A page of a new profile."""
    with browsing() as new:
        yield new


BUSY = """() => {
    const app = document.querySelector('[data-testid=stApp]');
    const charts = [...document.querySelectorAll('[data-testid=stPlotlyChart]')];
    return app.getAttribute('data-test-script-state') !== 'notRunning'
        || document.querySelector('[data-testid=stMain] [data-testid=stSkeleton]')
        || charts.some(chart => !chart.querySelector('.main-svg'));
}"""  # charts are put up by scripts that come after the page, and skeletons stand where these are awaited
STILL = f"""() => {{
    const charts = document.querySelectorAll('[data-testid=stPlotlyChart]').length, now = Date.now();
    const busy = ({BUSY})();
    if (busy || charts !== window.still?.charts) window.still = {{charts, since: now}};
    return !busy && now - window.still.since > 1000;
}}"""


def arrive(page) -> None:
    """Wait until the page has come and its charts are drawn; it may go on asking the server, as Live does."""
    page.wait_for_selector("[data-testid=stApp]")
    page.get_by_test_id("stSidebar").get_by_text("at a time").wait_for(state="attached")  # comes last
    page.wait_for_function(f"() => !({BUSY})()")


def settle(page) -> None:
    """Wait until the server has nothing more to send and the browser has drawn its charts, for a second."""
    arrive(page)
    page.evaluate("() => { delete window.still }")
    page.wait_for_function(STILL)


def shows(page, count: int, what: str) -> None:
    """Wait until the page has exactly so many elements of a kind, by CSS."""
    page.wait_for_function("([what, n]) => document.querySelectorAll(what).length === n", arg=[what, count])


def text_of(page) -> str:
    """What the main part of the page says."""
    return page.inner_text("[data-testid=stMain]")

"""A run store for several machines: a real PostgreSQL and a real MLflow server, on loopback.

shared_server   both, started once per session; the test is skipped, with the reason, if they cannot start
machines        `machines("second")` plays another machine: its own home and host name, the same store
"""

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

import mer.runs.run
from mer.runs.store import RunStore

ROOT = Path(__file__).parents[1]
AS_HOST = """
import json, os, socket, sys
socket.gethostname = lambda: os.environ["TEST_HOST"]
import mer.runs.heartbeat, mer.experiments.callbacks, mer.runs.run
mer.runs.run.SILENCE, mer.runs.heartbeat.EVERY = 4.0, 1.0
mer.experiments.callbacks.SendState.__init__.__kwdefaults__["every"] = 0.0
if "TEST_PAUSE" in os.environ:
    from tests.held import pause_after
    pause_after(int(os.environ["TEST_PAUSE"]))
from mer.cli import main
sys.exit(main())
"""


def binaries() -> Path | None:
    """The folder with the programs of the newest PostgreSQL on this machine."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    found.sort(key=lambda path: float(path.parent.name))
    known = shutil.which("initdb")
    return found[-1] if found else Path(known).resolve().parent if known else None


def missing() -> str:
    """The reason why a server cannot run here, or an empty string."""
    if binaries() is None:
        return "no PostgreSQL here: apt-get install postgresql"
    if find_spec("psycopg2") is None:
        return "no driver for PostgreSQL here: pip install -r requirements-server.txt"
    return ""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Postgres:
    """A database cluster in a temporary folder. PostgreSQL refuses root, so it then runs as nobody."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mer-postgres-", dir="/tmp"))
        self.who = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            self.who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self.port = free_port()
        self.uri = f"postgresql+psycopg2://mer@127.0.0.1:{self.port}/mlflow"

    def call(self, program: str, *words: object) -> str:
        command = [str(binaries() / program), *map(str, words)]
        # not a pipe, which the server that pg_ctl starts would keep open
        with tempfile.TemporaryFile("w+") as said:
            done = subprocess.run(command, stdout=said, stderr=said, cwd=self.folder, **self.who)
            said.seek(0)
            assert done.returncode == 0, said.read()
            said.seek(0)
            return said.read()

    def start(self) -> None:
        data = self.folder / "data"
        self.call("initdb", "-D", data, "-U", "mer", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        how = f"-c listen_addresses=127.0.0.1 -c fsync=off -p {self.port} -k {self.folder}"
        self.call("pg_ctl", "-D", data, "-w", "-l", self.folder / "log", "-o", how, "start")
        self.call("createdb", "-h", "127.0.0.1", "-p", self.port, "-U", "mer", "mlflow")

    def stop(self) -> None:
        self.call("pg_ctl", "-D", self.folder / "data", "-m", "immediate", "stop")
        shutil.rmtree(self.folder)


class MlflowServer:
    """`mlflow server` on a database, which can be stopped and started again at the same address."""

    def __init__(self, database: str, folder: Path) -> None:
        self.database, self.folder, self.port = database, folder, free_port()
        self.uri, self.process = f"http://127.0.0.1:{self.port}", None

    def start(self) -> None:
        words = ["--backend-store-uri", self.database, "--artifacts-destination", self.folder / "artifacts"]
        words += ["--serve-artifacts", "--host", "127.0.0.1", "--port", self.port, "--workers", "1"]
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *map(str, words)],
                env=os.environ | quiet,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 120
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while True:
            try:
                opener.open(f"{self.uri}/health", timeout=2)
            except OSError:
                said = (self.folder / "server.log").read_text()
                assert self.process.poll() is None, said
                assert time.monotonic() < deadline, said
                time.sleep(0.2)
            else:
                return

    def stop(self) -> None:
        """Stop the process group: Uvicorn, its workers and their children."""
        os.killpg(self.process.pid, 9)
        self.process.wait()

    @contextmanager
    def away(self, seconds: float):
        """Stop the server during the block, for at least this many seconds, then start it again."""
        self.stop()
        began = time.monotonic()
        try:
            yield
            time.sleep(max(0.0, began + seconds - time.monotonic()))
        finally:
            self.start()


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory):
    if missing():
        pytest.skip(missing())
    postgres = Postgres()
    postgres.start()
    server = MlflowServer(postgres.uri, tmp_path_factory.mktemp("mlflow"))
    try:
        server.start()
        yield server
    finally:
        server.stop()
        postgres.stop()


class Machine:
    """Another machine: a home, a host name and the shared store. `here` makes this process play it."""

    def __init__(self, name: str, home: Path, uri: str, patch: pytest.MonkeyPatch) -> None:
        self.name, self.home, self.patch, self.started = name, home, patch, []
        self.settings = os.environ | {
            "MER_HOME": str(home),
            "MLFLOW_TRACKING_URI": uri,
            "TEST_HOST": name,
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
        }

    def here(self) -> RunStore:
        """Make this process play this machine from now on."""
        for key in ("MER_HOME", "MLFLOW_TRACKING_URI"):
            self.patch.setenv(key, self.settings[key])
        self.patch.setattr(socket, "gethostname", lambda: self.name)
        self.patch.setattr(mer.runs.run, "SILENCE", 4.0)
        return RunStore.open()

    def start(self, *words: object, pause: int | None = None) -> subprocess.Popen:
        """Start a command there, with a heartbeat every second and the state sent after each epoch.

        Training pauses after epoch `pause`.
        """
        process = subprocess.Popen(
            [sys.executable, "-c", AS_HOST, *map(str, words)],
            env=self.settings | ({"TEST_PAUSE": str(pause)} if pause else {}),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def mer(self, *words: object) -> dict:
        """Run a command there; returns what it prints."""
        process = self.start(*words, "--json")
        out, err = process.communicate(timeout=200)
        assert process.returncode == 0, err
        assert len(out.splitlines()) == 1, out
        return json.loads(out)


@pytest.fixture
def machines(shared_server, tmp_path, monkeypatch):
    made = []

    def make(name: str) -> Machine:
        made.append(Machine(name, tmp_path / f"home of {name}", shared_server.uri, monkeypatch))
        return made[-1]

    yield make
    for process in [process for machine in made for process in machine.started]:
        process.kill()
        with process:  # which closes its output
            pass

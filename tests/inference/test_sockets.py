"""Connections to `mer serve`: bounded in number and in patience, whatever clients do."""

import logging
import re
import resource
import subprocess
import sys
import time
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psutil
import pytest

from mer.inference.admission import Limits
from mer.inference.ensemble import open_predictor
from mer.inference.serve import server as server_of
from mer.inference.sockets import SELDOM, most_connections
from mer.utils.errors import ConfigError
from tests.serve_helpers import SHIPPED, Server, Slow, serving, wav

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def listener():
    return open_predictor(SHIPPED, device="cpu")


@pytest.fixture
def few(monkeypatch):
    """A server that takes 20 connections, and no client that is slower than half a second."""
    for name, value in {"MOST": 20, "LEAST": 1, "HEAD_SECONDS": 0.5, "STALLED_SECONDS": 0.5}.items():
        monkeypatch.setattr(f"mer.inference.sockets.{name}", value)
    SELDOM.last.clear()


def is_closed(line, seconds=10):
    """Whether the server closes a connection within so many seconds."""
    line.settimeout(seconds)
    try:
        while line.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


def is_cut_off(line, piece, pause=0.0, seconds=20):
    """Whether the server ends a connection on which the same bytes are sent again and again."""
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            line.sendall(piece)
            time.sleep(pause)
    except ConnectionError:
        return True
    return False


def test_above_the_limit_the_longest_idle_connection_is_closed(listener, sound, few, monkeypatch, caplog):
    monkeypatch.setattr("mer.inference.sockets.HEAD_SECONDS", 60.0)
    with caplog.at_level(logging.WARNING), ExitStack() as stack, serving(listener, inside=2) as server:
        lines = [stack.enter_context(closing(server.connect())) for _ in range(60)]
        assert server.ask("GET", "/health")[0] == 200
        assert server.predict(wav(sound))[0] == 200
        assert all(is_closed(line) for line in lines[:40])
        assert not is_closed(lines[-1], 0.2)
        assert len(server.web.server_state.connections) <= 20
    assert len([r for r in caplog.records if "connections are open" in r.getMessage()]) == 1


def test_a_connection_with_a_request_in_progress_is_not_closed(listener, sound, few):
    slow = Slow(listener)
    with serving(slow, inside=2) as server, ExitStack() as stack:
        line = stack.enter_context(closing(server.connect(timeout=60)))
        content = wav(sound)
        head = b"--x\r\nContent-Disposition: form-data; name=file; filename=a.wav\r\n\r\n"
        body = head + content + b"\r\n--x--\r\n"
        line.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body) + body
        )
        server.wait_for(1)
        for _ in range(60):
            stack.enter_context(closing(server.connect()))
        assert server.ask("GET", "/health")[0] == 200
        time.sleep(0.7)  # longer than a head may take
        slow.go.set()
        assert line.recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.promise(
    "`mer serve` cuts off headers and bodies that never end, and clients that never take their answer.",
    measured="after 10 s; bodies after 30 s",
)
def test_endless_headers_are_cut_off_even_if_they_arrive_steadily(listener, few):
    with serving(listener, inside=2) as server, closing(server.connect()) as line:
        line.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX: ")
        assert is_cut_off(line, b"x", pause=0.02)


def test_endless_headers_of_a_second_request_are_cut_off_too(listener, few):
    with serving(listener, inside=2) as server, closing(server.connect()) as line:
        line.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /hea")
        assert line.recv(65536).startswith(b"HTTP/1.1 200")
        assert is_closed(line)


def test_a_silent_connection_is_closed(listener, few):
    with serving(listener, inside=2) as server, closing(server.connect()) as line:
        assert is_closed(line)


def test_a_body_that_continues_after_the_answer_is_cut_off(listener, few):
    with serving(listener, inside=2) as server, closing(server.connect()) as line:
        line.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
        assert is_cut_off(line, bytes(1000), pause=0.02)


@pytest.mark.promise(
    "`mer serve` cuts off headers and bodies that never end, and clients that never take their answer."
)
def test_a_client_that_never_reads_its_answers_is_cut_off(listener, few):
    with serving(listener, inside=2) as server, closing(server.connect()) as line:
        assert is_cut_off(line, b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        assert server.ask("GET", "/health")[0] == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"no HTTP at all\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", None),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 500_000, 431),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 200),
    ],
)
def test_requests_that_are_not_http_get_one_line_of_json_or_a_closed_connection(listener, few, sent, status):
    with serving(listener, inside=2) as server, closing(server.connect()) as line:
        line.sendall(sent)
        got = b""
        try:
            while more := line.recv(65536):
                got += more
        except ConnectionError:
            pass
        assert server.ask("GET", "/health")[0] == 200
    if got or status not in (431, None):
        assert int(re.match(rb"HTTP/1.1 (\d+)", got)[1]) == (status or 400)
        assert status == 200 or b'{"error":' in got


def test_many_requests_that_are_not_http_give_one_log_line(listener, few, caplog):
    with caplog.at_level(logging.WARNING), serving(listener, inside=2) as server:
        logging.getLogger("uvicorn").propagate = True
        for _ in range(30):
            server.exchange(b"no HTTP at all\r\n\r\n")
    assert len([r for r in caplog.records if "Invalid HTTP" in r.getMessage()]) <= 1


def test_half_of_the_files_that_may_be_open_are_for_connections(monkeypatch):
    for files, most in ((1024, 512), (200, 100), (20_000, 1000), (resource.RLIM_INFINITY, 1000)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, files=files: (files, files))
        assert most_connections() == most
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 100))
    with pytest.raises(ConfigError, match="only 100 files may be open at once; raise it to 128"):
        most_connections()


def test_more_requests_at_once_than_files_allow_are_refused(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    with pytest.raises(ConfigError, match="use at most 64"):
        server_of(None, Limits(inside=65))


@contextmanager
def command(files):
    """`mer serve` that may open so many files: its server and its process."""
    words = f"ulimit -n {files}; exec {sys.executable} -m mer serve {SHIPPED} --port 0"
    process = subprocess.Popen(
        ["bash", "-c", words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        port = int(re.search(r":(\d+)/predict", process.stdout.readline())[1])
        yield Server(port), process
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1150, 5000])
@pytest.mark.promise(
    "Thousands of idle connections neither block `mer serve` nor keep a core busy.",
    measured="`ulimit -n 1024`, 1,150 and 5,000 connections: `/health` in 0.01 s, 2% of a core, one log line",
)
def test_thousands_of_idle_connections_block_no_request(sound, count):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count + 500:
        pytest.skip(f"this user may open {hard} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 500), hard))
    with command(1024) as (server, process), ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(closing(server.connect()))
        about = psutil.Process(process.pid)
        used, began = sum(about.cpu_times()[:2]), time.monotonic()
        for _ in range(5):
            for place in ("/health", "/metrics"):
                asked = time.monotonic()
                assert server.ask("GET", place)[0] == 200
                assert time.monotonic() - asked < 1
            time.sleep(1)
        assert (sum(about.cpu_times()[:2]) - used) / (time.monotonic() - began) < 0.2
        assert server.predict(wav(sound))[0] == 200
        assert about.num_fds() < 600
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert said.count("\n") == 1
    assert "512 connections are open" in said

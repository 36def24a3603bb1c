"""Errors of `mer serve`: one shape, one short line, nothing of what a client sent; and how a request ends."""

import json
import logging
import math
import re
import threading
import time
from contextlib import closing

import pytest

from mer.inference.admission import Limits
from mer.inference.ensemble import open_predictor
from mer.utils.errors import ConfigError
from tests.serve_helpers import SHIPPED, Slow, form, serving, wav

MULTIPART = {"Content-Type": "multipart/form-data; boundary=x"}
START = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
SECRET = "private-words-of-a-client"


@pytest.fixture(scope="module")
def listener():
    return open_predictor(SHIPPED, device="cpu")


@pytest.fixture(scope="module")
def served(listener):
    with serving(listener) as server:
        yield server


def part(disposition, content=b"", more=""):
    return f"--x\r\nContent-Disposition: form-data; {disposition}\r\n{more}\r\n".encode() + content + b"\r\n"


LAST = b"--x--\r\n"
FORMS = {
    "a file without a name": part("name=file", SECRET.encode() * 500) + LAST,
    "a file without a name that is large": part("name=file", SECRET.encode() * 50_000) + LAST,
    "a file under another name": part(f'name="{SECRET}"; filename="a.wav"', b"x" * 5000) + LAST,
    "two files": part("name=file; filename=a", b"x") + part("name=file; filename=b", b"x") + LAST,
    "a thousand files": b"".join(part(f"name=f{n}; filename={SECRET}") for n in range(1000)) + LAST,
    "a thousand fields": b"".join(part(f"name=f{n}", SECRET.encode()) for n in range(1000)) + LAST,
    "a part without a name": part(f"filename={SECRET}", b"x") + LAST,
    "a part with a long header": part("name=file; filename=a", b"x", f"X: {SECRET * 1000}\r\n") + LAST,
    "a part with many headers": part("name=file; filename=a", b"x", f"X: {SECRET}\r\n" * 500) + LAST,
    "no end": part("name=file; filename=a", b"x" * 1000),
    "no form": SECRET.encode() * 100,
    "nothing": b"",
}


# Starlette leaves the file of a form without an end to be closed by Python's own clearing away.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("body", FORMS.values(), ids=FORMS.keys())
@pytest.mark.promise(
    "An error of `mer serve` quotes nothing of the request but a short file name.", measured="under 300 bytes"
)
def test_a_wrong_form_gets_one_line_with_the_remedy(served, body):
    status, _, text = served.ask("POST", "/predict", body, MULTIPART)
    assert status in (400, 422)
    assert set(found := json.loads(text)) == {"error"}
    assert len(text) < 300
    assert "\n" not in found["error"]
    assert SECRET not in text
    assert "multipart/form-data" in text or "not audio" in text


HEADERS = {
    "no type": {},
    "a type that is no form": {"Content-Type": f"text/{SECRET}"},
    "an encoded form": {"Content-Type": "application/x-www-form-urlencoded"},
    "no boundary": {"Content-Type": "multipart/form-data"},
    "a long boundary": {"Content-Type": f"multipart/form-data; boundary={SECRET * 100}"},
    "a charset that there is not": {"Content-Type": f"multipart/form-data; boundary=x; charset={SECRET}"},
    "a charset that decodes nothing": {"Content-Type": "multipart/form-data; boundary=x; charset=undefined"},
    "a charset that is no text": {"Content-Type": "multipart/form-data; boundary=x; charset=hex"},
}


@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS.keys())
def test_wrong_headers_get_one_line(served, headers):
    status, _, text = served.ask("POST", "/predict", part("name=other", SECRET.encode()) + LAST, headers)
    assert status in (400, 422)
    assert set(json.loads(text)) == {"error"}
    assert len(text) < 300
    assert SECRET not in text


@pytest.mark.parametrize(
    "name", ["a" * 4000 + ".wav", "गाना" * 900, "\\u202e\x1b[31mx", "a%0d%0ab", "../../x"]
)
def test_a_file_name_is_quoted_in_short_with_control_characters_visible(served, name):
    status, _, found = served.predict(b"no sound", name=name)
    assert status in (400, 422)
    assert len(found["error"]) < 250
    assert found["error"].isprintable()


@pytest.mark.parametrize(
    ("method", "place", "status"),
    [
        ("GET", "/predict", 405),
        ("PUT", "/predict", 405),
        ("OPTIONS", "/predict", 405),
        ("DELETE", "/health", 405),
        ("BREW", "/health", 405),
        ("GET", f"/{SECRET}", 404),
        ("POST", f"/{SECRET}", 404),
    ],
)
def test_a_missing_path_gets_an_error_of_the_same_form(served, method, place, status):
    found, headers, text = served.ask(method, place)
    assert found == status
    assert "/predict" in json.loads(text)["error"]
    assert SECRET not in text
    assert ("allow" in headers) == (status == 405)


def test_head_is_answered_without_a_body(served):
    assert served.ask("HEAD", "/health")[::2] == (200, "")
    assert served.ask("HEAD", "/predict")[::2] == (405, "")


def test_the_connection_stays_open_after_any_error(served):
    lost = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    last = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    got = served.exchange(lost * 3 + b"GET /predict HTTP/1.1\r\nHost: x\r\n\r\n" + last)
    assert re.findall(rb"HTTP/1.1 (\d+)", got) == [b"422"] * 3 + [b"405", b"200"]


def test_a_refused_body_is_read_to_its_end_and_the_connection_stays_open(listener):
    with serving(listener, megabytes=0.05) as server, closing(server.connect()) as line:
        size = 3_000_000
        line.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
        line.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        got = b""
        while more := line.recv(65536):
            got += more
    assert re.findall(rb"HTTP/1.1 (\d+)", got) == [b"413", b"200"]


@pytest.mark.promise(
    "`mer serve` cuts off headers and bodies that never end, and clients that never take their answer."
)
def test_a_slow_body_gets_an_answer_and_the_connection_is_closed(listener):
    with serving(listener, patience=0.3) as server:
        got = server.exchange(START + b"Content-Length: 100\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in got.lower()


def test_a_body_shorter_than_it_says_leaves_nothing_behind(served):
    before = served.figures().get('mer_requests_total{status="499"}', "0")
    with closing(served.connect()) as line:
        line.sendall(START + b"Content-Length: 100\r\n\r\n--x")
        served.wait_for(1)
    served.wait_for(0)
    assert float(served.figures()['mer_requests_total{status="499"}']) == float(before) + 1


def test_a_client_of_http_1_0_is_answered(served):
    got = served.exchange(b"GET /health HTTP/1.0\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 200")


class Failing(Slow):
    def answer(self, waveform, remarks=()):
        raise RuntimeError(f"/secret/path\n{SECRET}")


def test_a_failure_has_an_id_in_answer_and_log_and_one_traceback_a_kind(listener, sound, caplog):
    with caplog.at_level(logging.WARNING), serving(Failing(listener)) as server:
        answers = [server.predict(wav(sound)) for _ in range(3)]
    lines = [record for record in caplog.records if record.name == "mer.inference.serve"]
    assert len(lines) == 3
    assert len([record for record in caplog.records if record.exc_info]) == 1
    for (status, _, found), record in zip(answers, lines, strict=True):
        number = re.search(r"under ([0-9a-f]{8})", found["error"])[1]
        assert status == 500
        assert number in record.getMessage()
        assert "\n" not in record.getMessage()
        assert "secret" not in found["error"]


@pytest.mark.promise("`mer serve` drops the request of a client that left, unless work on it has begun.")
def test_work_of_a_client_that_left_is_dropped_unless_it_has_begun(listener, sound):
    slow, heard = Slow(listener), []
    answer = slow.answer
    slow.answer = lambda waveform, remarks: heard.append(len(waveform)) or answer(waveform, remarks)
    body, headers = form(wav(sound), "a.wav")
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {headers['Content-Type']}\r\n"
    sent = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    with serving(slow, workers=1) as server:
        first = server.connect()
        first.sendall(sent)
        while not heard:
            time.sleep(0.01)
        others = [server.connect() for _ in range(3)]
        for line in others:
            line.sendall(sent)
        server.wait_for(4)
        for line in others:
            line.close()
        server.wait_for(1)  # while the first is still at work
        slow.go.set()
        assert first.recv(100).startswith(b"HTTP/1.1 200")
        first.close()
    assert len(heard) == 1


def stopped_with(server, content, answers):
    """Ask, and note the answer."""
    answers.append(server.predict(content))


@pytest.mark.promise(
    "When `mer serve` stops, waiting and new requests are told to try again later.",
    measured="503, one log line",
)
def test_waiting_and_new_requests_get_503_during_shutdown(listener, sound, caplog, monkeypatch):
    monkeypatch.setattr("mer.inference.sockets.DRAIN_SECONDS", 1.0)
    slow, answers, content = Slow(listener), [], wav(sound)
    with caplog.at_level(logging.WARNING), serving(slow, workers=1) as server:
        asking = [threading.Thread(target=stopped_with, args=(server, content, answers)) for _ in range(5)]
        for thread in asking:
            thread.start()
        server.wait_for(5)
        server.web.should_exit = True
        while server.ask("GET", "/health")[0] == 200:
            time.sleep(0.01)
        status, headers, found = server.predict(content)
        assert (status, headers["retry-after"], set(found)) == (503, "5", {"error"})
        assert server.ask("GET", "/metrics")[0] == 200
        for thread in asking:
            thread.join()
        slow.go.set()
        server.thread.join(30)
        assert not server.thread.is_alive()
    assert [(status, headers["retry-after"]) for status, headers, _ in answers] == [(503, "5")] * 5
    assert {found["error"] for *_, found in answers} == {"the server is stopping; try again in 5 seconds"}
    assert [record.getMessage().split(" ", 1)[0] for record in caplog.records] == ["5"]


def test_accepted_requests_are_answered_before_shutdown(listener, sound):
    slow, answers = Slow(listener), []
    with serving(slow) as server:
        asking = threading.Thread(target=stopped_with, args=(server, wav(sound), answers))
        asking.start()
        server.wait_for(1)
        server.web.should_exit = True
        while server.ask("GET", "/health")[0] == 200:
            time.sleep(0.01)
        slow.go.set()
        asking.join()
    assert answers[0][0] == 200


@pytest.mark.parametrize(
    "wrong",
    [
        *({name: value} for name in ("inside", "workers") for value in (0, -1)),
        *({name: value} for name in ("megabytes", "seconds", "patience") for value in (0, -1.0, math.nan)),
        *({"batch_window": value} for value in (-0.1, 11.0, math.nan)),
    ],
    ids=str,
)
def test_limits_out_of_range_are_refused_in_one_line(wrong):
    (name,) = wrong
    with pytest.raises(ConfigError, match=f"^{name}=.* is out of range: use ") as caught:
        Limits(**wrong)
    assert "\n" not in str(caught.value)

"""A checkpoint behind HTTP: the same answers as without, and never a pile-up. A real server on loopback."""

import io
import json
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mer.inference.ensemble import open_predictor
from mer.inference.serve import MB, Limits
from tests.media import CONTAINERS, encode
from tests.serve_helpers import SHIPPED, Server, Slow, form, serving, wav

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def listener():
    return open_predictor(SHIPPED, device="cpu")


@pytest.fixture(scope="module")
def served(listener):
    with serving(listener) as server:
        yield server


def test_the_answer_is_the_one_without_a_server(served, listener, sound):
    content = wav(sound, seconds=12.0)
    status, _, found = served.predict(content)
    own = listener.predict(content)
    assert status == 200
    assert found["emotion"] == own.emotion
    assert found["probabilities"] == pytest.approx(own.probabilities, abs=1e-5)
    assert [(w["start"], w["end"]) for w in found["windows"]] == [(w.start, w.end) for w in own.windows]


def test_health_says_what_is_served(served, listener):
    status, _, text = served.ask("GET", "/health")
    found = json.loads(text)
    assert (status, found["status"], found["inside"], found["limit"]) == (200, "ok", 0, Limits().inside)
    assert found["classes"] == list(listener.card.classes)


def test_an_answer_on_a_kept_connection_is_sent_in_one_piece(served):
    with closing(HTTPConnection("127.0.0.1", served.port, timeout=60)) as line:

        def seconds():
            began = time.monotonic()
            line.request("GET", "/health")
            line.getresponse().read()
            return time.monotonic() - began

        seconds()
        # An answer sent in two pieces never comes within the 0.04 s of a delayed acknowledgement.
        assert any(seconds() < 0.03 for _ in range(500))


def test_the_description_names_the_file_and_the_answer(served):
    found = json.loads(served.ask("GET", "/openapi.json")[2])
    assert set(found["paths"]) == {"/predict", "/health"}
    assert "Answer" in found["components"]["schemas"]


def test_metrics_count_the_requests(served, sound):
    before = served.figures()
    served.predict(wav(sound))
    served.predict(b"no sound")
    after = served.figures()
    for status in ("200", "422"):
        name = f'mer_requests_total{{status="{status}"}}'
        assert float(after[name]) == float(before.get(name, 0)) + 1
    assert float(after["mer_requests_inside"]) == 0
    counted = "mer_request_seconds_count"
    assert float(after[counted]) == float(before[counted]) + 2


@pytest.mark.parametrize("kind", CONTAINERS[:8], ids=lambda kind: f"{kind.suffix}-{kind.codec}")
def test_recordings_of_phones_and_browsers_are_accepted(served, sound, kind):
    song = np.concatenate([sound.chord((220 * up, 330 * up)) for up in (1, 1.2, 0.8)])
    status, _, found = served.predict(encode(song, 16_000, kind), name=f"clip.{kind.suffix}")
    assert status == 200
    assert found["windows"][-1]["end"] == pytest.approx(3.0, abs=0.2)


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "empty, 0 bytes"), (b"no sound", "not audio"), (bytes(50_000), "not audio")]
)
def test_files_that_are_not_audio_are_refused_in_one_line(served, content, said):
    status, _, found = served.predict(content, name="गाना.wav")
    assert status == 422
    assert said in found["error"]
    assert found["error"].startswith("गाना.wav")


def test_a_request_without_a_file_says_what_is_missing(served):
    assert served.ask("POST", "/predict")[0] == 422
    assert served.ask("GET", "/predict")[0] == 405


def test_a_clip_that_is_too_long_is_refused(listener, sound):
    with serving(listener, seconds=2.0) as server:
        status, _, found = server.predict(wav(sound))
    assert status == 422
    assert "3 s long; cut it to 2 s" in found["error"]


def test_a_body_that_is_too_large_is_refused_before_it_comes(listener, sound):
    with serving(listener, megabytes=0.05) as server:
        status, _, found = server.predict(wav(sound))
        assert (status, found["error"]) == (413, "the file is larger than 0.05 MB; cut it or compress it")
        with closing(socket.create_connection(("127.0.0.1", server.port), timeout=30)) as line:
            line.sendall(f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {10 * MB}\r\n\r\n".encode())
            assert line.recv(100).startswith(b"HTTP/1.1 413")


def chunked(server, count, *, size=1000, wait=0.0):
    """Status of a body in chunks that does not say how long it is."""
    head = (
        "POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    )
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=30)) as line:
        line.sendall(head.encode())
        start = b"--x\r\nContent-Disposition: form-data; name=file; filename=a.wav\r\n\r\n"
        try:
            for piece in [start, *[bytes(size)] * count]:
                line.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                time.sleep(wait)
        except OSError:  # it has answered and closed
            pass
        return int(line.recv(100).split()[1])


def test_a_body_of_unknown_size_is_measured_while_it_arrives(listener):
    with serving(listener, megabytes=0.05) as server:
        assert chunked(server, 200) == 413


def test_a_body_that_arrives_too_slowly_is_refused(listener):
    with serving(listener, patience=0.5) as server:
        assert chunked(server, 20, wait=0.1) == 408
        server.wait_for(0)


def test_requests_over_the_limit_are_refused_at_once_and_accepted_ones_answered(listener, sound):
    slow, content = Slow(listener), wav(sound)
    with serving(slow, inside=4) as server, ThreadPoolExecutor(4) as pool:
        inside = [pool.submit(server.predict, content) for _ in range(4)]
        server.wait_for(4)
        for _ in range(20):
            began = time.monotonic()
            status, headers, found = server.predict(content)
            assert time.monotonic() - began < 20  # those inside would be waited for a minute
            assert (status, headers["retry-after"]) == (429, "1")
            assert "4 requests are being worked on" in found["error"]
        slow.go.set()
        assert [future.result()[0] for future in inside] == [200] * 4
        assert server.predict(content)[0] == 200


def test_a_client_that_leaves_frees_its_place(listener, sound):
    slow = Slow(listener)
    body, headers = form(wav(sound), "a.wav")
    with serving(slow, inside=1) as server:
        connection = HTTPConnection("127.0.0.1", server.port)
        connection.request("POST", "/predict", body, headers)
        server.wait_for(1)
        connection.close()
        slow.go.set()
        server.wait_for(0)
        assert server.predict(wav(sound))[0] == 200


def test_concurrent_requests_are_batched_and_get_the_same_answers(sound):
    listener = open_predictor(SHIPPED, device="cpu")
    contents = [wav(sound, hertz=150.0 + 40 * number) for number in range(8)]
    alone = [listener.predict(content).probabilities for content in contents]
    sizes, look = [], listener.look
    listener.look = lambda inputs: sizes.append(len(inputs)) or look(inputs)
    with serving(listener, batch_window=0.3, workers=8) as server, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(server.predict, contents))
    assert len(sizes) < 8
    for (status, _, answer), own in zip(found, alone, strict=True):
        assert status == 200
        assert answer["probabilities"] == pytest.approx(own, abs=1e-4)


def test_what_is_remarked_on_a_file_is_in_the_answer_and_codecs_that_cannot_seek_are_heard(listener, sound):
    phone = io.BytesIO()
    soundfile.write(phone, sound.chord(seconds=3.0, rate=8000), 8000, format="WAV", subtype="GSM610")
    whole = wav(sound, seconds=4.0)
    with serving(listener) as server:
        answers = [server.predict(content) for content in (whole, whole[: len(whole) // 2], phone.getvalue())]
    assert [status for status, *_ in answers] == [200] * 3
    plain, cut, narrow = (answer["remarks"] for *_, answer in answers)
    assert not any("cut" in remark for remark in plain)
    assert cut[0] == "It is cut: 2.0 of its 4.0 s can be read."
    assert narrow[0] == "It has no sound above 4 kHz, as over a telephone."


def test_clients_see_no_details_of_unexpected_errors(listener, sound, monkeypatch):
    def fail(waveform, remarks):
        raise RuntimeError("/secret/path")

    slow = Slow(listener)
    slow.answer = fail
    with serving(slow) as server:
        body, headers = form(wav(sound), "a.wav")
        status, _, text = server.ask("POST", "/predict", body, headers)
    assert status == 500
    assert "secret" not in text


@pytest.fixture
def command(tmp_path):
    def start(*words):
        return subprocess.Popen(
            [sys.executable, "-m", "mer", "serve", str(SHIPPED), *words],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    return start


@pytest.mark.slow
def test_the_command_says_where_it_listens_and_ends_cleanly(command, sound):
    process = command("--port", "0", "--json")
    about = json.loads(process.stdout.readline())
    server = Server(int(about["url"].rsplit(":", 1)[1]))
    assert about["url"].startswith("http://127.0.0.1:")
    assert server.predict(wav(sound))[0] == 200
    process.terminate()
    _, said = process.communicate(timeout=120)
    assert (process.returncode, said) == (0, "")


@pytest.mark.slow
def test_a_port_in_use_is_an_error_in_one_line(command):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        process = command("--port", str(taken.getsockname()[1]))
        _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said.startswith("error: cannot listen on 127.0.0.1:")
    assert said.count("\n") == 1

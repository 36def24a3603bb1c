"""A real server on loopback, and its clients."""

import io
import json
import socket
import threading
import time
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path

import soundfile

from mer.inference.serve import Limits, application, bound, server

SHIPPED = Path(__file__).parents[1] / "checkpoints" / "demo_mobilenet_v3_small"


class Server:
    """An app that is served on a local port."""

    def __init__(self, port, web=None, thread=None):
        self.port, self.web, self.thread = port, web, thread

    def connect(self, *, timeout=20):
        """A plain socket, for requests that no HTTP client would send."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)

    def exchange(self, sent, *, timeout=20):
        """Send bytes; returns all that is received until the server closes the connection or a timeout."""
        with closing(self.connect(timeout=timeout)) as line:
            line.sendall(sent)
            got = b""
            with suppress(TimeoutError, ConnectionResetError):
                while more := line.recv(65536):
                    got += more
            return got

    def inside(self):
        return int(float(self.figures()["mer_requests_inside"]))

    def wait_for(self, count):
        """Wait until this many requests are being handled."""
        until = time.monotonic() + 30
        while self.inside() != count:
            assert time.monotonic() < until, f"{self.inside()} requests are inside, not {count}"
            time.sleep(0.01)

    def ask(self, method, place, body=b"", headers=()):
        """Send a request; returns (status, headers, text)."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request(method, place, body, dict(headers))
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read().decode()

    def predict(self, content, name="clip.wav"):
        body, headers = form(content, name)
        status, headers, text = self.ask("POST", "/predict", body, headers)
        return status, headers, json.loads(text)

    def figures(self):
        return dict(
            line.rsplit(" ", 1) for line in self.ask("GET", "/metrics")[2].splitlines() if line[0] != "#"
        )


def form(content, name):
    edge = "x" * 30
    head = f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    body = head.encode() + content + f"\r\n--{edge}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={edge}"}


@contextmanager
def serving(listener, **limits):
    place = bound("127.0.0.1", 0)
    web = server(application(listener, Limits(**limits)), Limits(**limits))
    thread = threading.Thread(target=web.run, kwargs={"sockets": [place]})
    thread.start()
    try:
        while not web.started:
            time.sleep(0.01)
        yield Server(place.getsockname()[1], web, thread)
    finally:
        web.should_exit = True
        thread.join(30)


class Slow:
    """A predictor that waits until `go` is set."""

    def __init__(self, listener):
        self.listener, self.networks, self.card = listener, listener.networks, listener.card
        self.go = threading.Event()

    def answer(self, waveform, remarks=()):
        assert self.go.wait(60)
        return self.listener.answer(waveform, remarks)


def wav(sound, *, seconds=3.0, hertz=440.0):
    file = io.BytesIO()
    soundfile.write(file, sound.chord((hertz, 1.26 * hertz, 1.5 * hertz), seconds), 16_000, format="WAV")
    return file.getvalue()

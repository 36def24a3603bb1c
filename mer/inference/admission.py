"""Admission control for `mer serve`: limits on requests, and one form for all errors.

Only a fixed number of requests is admitted at once; any further request is refused at once with 429. The size
and the duration of a body are checked while it arrives. While the server is stopping, new requests get 503.
Every error is one line of JSON.
"""

import asyncio
import logging
import secrets
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.requests import ClientDisconnect

from mer.utils.errors import ConfigError
from mer.utils.text import visible

__all__ = ["FORM", "MB", "Admission", "Inside", "Limits", "error_response"]

MB = 2**20
FORM = 2**14  # bytes that a form may take in addition to its file
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)  # bucket bounds of the histogram
LEFT = 499  # status counted when the client disconnects; it is never sent
STOPPING = "the server is stopping; try again in 5 seconds"
LATER = {"Retry-After": "5"}

log = logging.getLogger("mer.inference.serve")


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the server.

    Parameters
    ----------
    inside
        Requests admitted at once, running or waiting; at least 1.
    megabytes
        Largest file, in MB of 2**20 bytes; above 0.
    seconds
        Longest clip, in seconds; above 0.
    patience
        Seconds within which the whole body of a request must arrive; above 0.
    workers
        Threads that predict, each with one torch thread; at least 1.
    batch_window
        Seconds to wait for further requests that can share a forward pass, 0 to 10; 0 turns batching off.

    Raises
    ------
    ConfigError
        If a limit is out of range.
    """

    inside: int = 32
    megabytes: float = 50.0
    seconds: float = 900.0
    patience: float = 30.0
    workers: int = 2
    batch_window: float = 0.0

    def __post_init__(self) -> None:
        for name in ("inside", "workers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} is out of range: use 1 or more")
        for name in ("megabytes", "seconds", "patience"):
            if not getattr(self, name) > 0:  # NaN fails too
                raise ConfigError(f"{name}={getattr(self, name):g} is out of range: use more than 0")
        if not 0 <= self.batch_window <= 10:
            raise ConfigError(f"batch_window={self.batch_window:g} s is out of range: use 0 to 10")


class Inside:
    """The admitted requests, running or waiting, and the figures for `/metrics`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = Counter("mer_requests", "Requests to predict, by HTTP status", ["status"], **own)
        self.seconds = Histogram(
            "mer_request_seconds", "Time from the first byte to the answer", buckets=SECONDS, **own
        )
        self.gauge = Gauge("mer_requests_inside", "Requests that are being worked on or wait", **own)
        self.tasks: set[asyncio.Task] = set()
        self.stopping = False

    def __len__(self) -> int:
        return len(self.tasks)

    def enter(self, task: asyncio.Task) -> None:
        """Add a request that is admitted."""
        self.tasks.add(task)
        self.gauge.set(len(self))

    def leave(self, task: asyncio.Task) -> None:
        """Remove a request that is answered or abandoned."""
        self.tasks.discard(task)
        self.gauge.set(len(self))

    def text(self) -> bytes:
        """All figures in Prometheus text format."""
        return generate_latest(self.registry)

    async def drain(self, seconds: float, *, hurry: Callable[[], bool]) -> None:
        """Refuse new requests and wait for the admitted ones to end.

        Requests still open after `seconds`, or as soon as `hurry` returns true, are cancelled and get a 503.
        """
        self.stopping = True
        until = time.monotonic() + seconds
        while self.tasks and time.monotonic() < until and not hurry():
            await asyncio.sleep(0.05)
        if waiting := tuple(self.tasks):
            log.warning(
                "%d requests were not answered %g s after the signal to stop; they get a 503",
                len(waiting), seconds,
            )  # fmt: skip
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting, timeout=1)


class Admission:
    """ASGI middleware that limits how many POST requests run at once, their size, and their upload time."""

    def __init__(self, app: Any, limits: Limits, inside: Inside) -> None:
        self.app, self.limits, self.inside = app, limits, inside
        self.most = int(limits.megabytes * MB) + FORM
        self.seen: set[tuple] = set()  # kinds of failure whose traceback has been logged

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        """Refuse the request, or pass it to the application."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif refusal := self._refusal(scope):
            if scope["method"] == "POST":
                self.inside.requests.labels(refusal.status_code).inc()
            await refusal(scope, receive, send)
        elif scope["method"] == "POST":
            await self._work(scope, receive, send)
        else:
            await self._answer(scope, receive, send)

    async def _work(self, scope: dict, receive: Any, send: Any) -> None:
        """Answer a request, and count it as admitted until that is done."""
        task, began, status = asyncio.current_task(), time.monotonic(), LEFT
        self.inside.enter(task)
        try:
            status = await self._answer(scope, self._limited(receive), send)
        finally:
            self.inside.leave(task)
            self.inside.seconds.observe(time.monotonic() - began)
            self.inside.requests.labels(status).inc()

    def _refusal(self, scope: dict) -> JSONResponse | None:
        """The response to a request that is not admitted; None if it is."""
        if self.inside.stopping and scope["path"] != "/metrics":
            return error_response(503, STOPPING, LATER)
        if scope["method"] != "POST":
            return None
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self.most:
            return error_response(413, self._too_large)
        if len(self.inside) >= self.limits.inside:
            busy = f"{len(self.inside)} requests are being worked on; try again in a second"
            return error_response(429, busy, {"Retry-After": "1"})
        return None

    async def _answer(self, scope: dict, receive: Any, send: Any) -> int:
        """Run the application, or answer with a one-line error if it fails. Returns the status."""
        statuses: list[int] = []
        try:
            await self.app(scope, receive, _recording_status(send, statuses))
        except ClientDisconnect:
            return LEFT
        except asyncio.CancelledError:  # by `Inside.drain`
            refusal = error_response(503, STOPPING, LATER)
        except Exception as error:  # noqa: BLE001 - the client gets one line for any error
            refusal = self._failed(error)
        else:
            return statuses[0] if statuses else LEFT
        if not statuses:
            await refusal(scope, receive, send)
        return refusal.status_code

    def _failed(self, error: Exception) -> JSONResponse:
        """Log a failure under an id, which the client is told. The traceback is logged once per kind."""
        number = secrets.token_hex(4)
        place = traceback.extract_tb(error.__traceback__)[-1]
        kind = (type(error), place.filename, place.lineno)
        text = visible(str(error))[:200]
        first = error if kind not in self.seen else None
        self.seen.add(kind)
        log.error("error %s: %s: %s", number, type(error).__name__, text, exc_info=first)
        return error_response(
            500, f"the server failed on this request; its log has the reason, under {number}"
        )

    @property
    def _too_large(self) -> str:
        return f"the file is larger than {self.limits.megabytes:g} MB; cut it or compress it"

    def _limited(self, receive: Any) -> Any:
        """Wrap `receive` to refuse bodies that are too large or arrive too slowly."""
        until, size = time.monotonic() + self.limits.patience, 0
        whole = False

        async def limited() -> dict:
            """Receive the next message. Raises HTTPException (408 or 413) if it breaks a limit."""
            nonlocal size, whole
            if whole:
                return await receive()  # returns when the client disconnects
            try:
                message = await asyncio.wait_for(receive(), max(until - time.monotonic(), 0))
            except TimeoutError:
                slow = f"no whole body within {self.limits.patience:g} s; send it faster, or a smaller file"
                raise HTTPException(408, slow, {"Connection": "close"}) from None
            size += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if size > self.most:
                raise HTTPException(413, self._too_large)
            return message

        return limited


def _recording_status(send: Any, statuses: list[int]) -> Any:
    """Wrap `send` to append the status of the response to `statuses`."""

    async def record(message: dict) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
        await send(message)

    return record


def error_response(status: int, text: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Make an error response with the body `{"error": text}`.

    Parameters
    ----------
    status
        HTTP status.
    text
        The error; it becomes one line.
    headers
        Further headers.
    """
    return JSONResponse({"error": visible(text)}, status, headers)

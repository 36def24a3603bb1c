"""What stands between HTTP and the application of `mer serve`: which requests are let in, and how they end.

So many requests are let in; the next is told at once to come again (429). A body is measured while it comes.
While the server stops, what arrives is told to come again (503). Every error is one line in JSON.
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
FORM = 2**14  # bytes that a form may add to its file
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)  # bounds of the histogram
LEFT = 499  # what is counted for a client that left; nobody is told
STOPPING = "the server is stopping; come again in 5 seconds"
LATER = {"Retry-After": "5"}

log = logging.getLogger("mer.inference.serve")


@dataclass(frozen=True, slots=True)
class Limits:
    """What is taken: requests at once, `megabytes` and `seconds` of sound each, `patience` s for a body.

    `workers` threads work on them, of one torch thread each; `batch_window` s are waited for others to look
    at together, 0 for none. Raises ConfigError for a number out of range.
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
        if not 0 <= self.batch_window <= 10:
            raise ConfigError(f"batch_window={self.batch_window:g} s is out of range: use 0 to 10")


class Inside:
    """The requests that are being worked on or wait, and what `/metrics` says of them."""

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
        """Count a request that is let in."""
        self.tasks.add(task)
        self.gauge.set(len(self))

    def leave(self, task: asyncio.Task) -> None:
        """Count a request that is answered or given up."""
        self.tasks.discard(task)
        self.gauge.set(len(self))

    def text(self) -> bytes:
        """All figures, in Prometheus' text format."""
        return generate_latest(self.registry)

    async def drain(self, seconds: float, *, hurry: Callable[[], bool]) -> None:
        """Let nobody in any more and wait for those inside; they get a 503 after `seconds`, or in a hurry."""
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
    """ASGI middleware that lets in so many POST requests at once, each of limited size and slowness."""

    def __init__(self, app: Any, limits: Limits, inside: Inside) -> None:
        self.app, self.limits, self.inside = app, limits, inside
        self.most = int(limits.megabytes * MB) + FORM
        self.seen: set[tuple] = set()  # kinds of failure whose traceback is in the log already

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        """Answer at once, or pass on."""
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
        """Answer a request that counts as inside meanwhile."""
        task, began, status = asyncio.current_task(), time.monotonic(), LEFT
        self.inside.enter(task)
        try:
            status = await self._answer(scope, self._measured(receive), send)
        finally:
            self.inside.leave(task)
            self.inside.seconds.observe(time.monotonic() - began)
            self.inside.requests.labels(status).inc()

    def _refusal(self, scope: dict) -> JSONResponse | None:
        if self.inside.stopping and scope["path"] != "/metrics":
            return error_response(503, STOPPING, LATER)
        if scope["method"] != "POST":
            return None
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self.most:
            return error_response(413, self._too_large)
        if len(self.inside) >= self.limits.inside:
            busy = f"{len(self.inside)} requests are being worked on; come again in a second"
            return error_response(429, busy, {"Retry-After": "1"})
        return None

    async def _answer(self, scope: dict, receive: Any, send: Any) -> int:
        """Have the application answer, or say in one line why it did not; returns the status."""
        statuses: list[int] = []
        try:
            await self.app(scope, receive, _noting(send, statuses))
        except ClientDisconnect:
            return LEFT
        except asyncio.CancelledError:  # the server stops
            refusal = error_response(503, STOPPING, LATER)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets one line
            refusal = self._failed(error)
        else:
            return statuses[0] if statuses else LEFT
        if not statuses:
            await refusal(scope, receive, send)
        return refusal.status_code

    def _failed(self, error: Exception) -> JSONResponse:
        """Log a failure under an id that the client is told; its traceback only the first time."""
        number = secrets.token_hex(4)
        place = traceback.extract_tb(error.__traceback__)[-1]
        kind = (type(error), place.filename, place.lineno)
        text = visible(str(error))[:200]
        first = error if kind not in self.seen else None
        self.seen.add(kind)
        log.error("error %s: %s: %s", number, type(error).__name__, text, exc_info=first)
        return error_response(500, f"the server failed on this request; its log says why, under {number}")

    @property
    def _too_large(self) -> str:
        return f"the file is larger than {self.limits.megabytes:g} MB; cut it or compress it"

    def _measured(self, receive: Any) -> Any:
        """`receive`, but for bodies that are too large or too slow."""
        until, size = time.monotonic() + self.limits.patience, 0
        whole = False

        async def measured() -> dict:
            nonlocal size, whole
            if whole:
                return await receive()  # waits for the client to leave
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

        return measured


def _noting(send: Any, statuses: list[int]) -> Any:
    async def noting(message: dict) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
        await send(message)

    return noting


def error_response(status: int, text: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error as one line: `{"error": text}`."""
    return JSONResponse({"error": visible(text)}, status, headers)

"""A checkpoint behind HTTP: `POST /predict` with an audio file, `GET /health`, `/metrics`, `/docs`.

Never a pile-up: so many requests are let in, the next is told at once to come again (429). A body is
measured while it comes, and given up on where it comes too slowly.
"""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import FastAPI, File, HTTPException, Request, Response, UploadFile
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from mer.audio.decode import load
from mer.inference.batching import Gatherer
from mer.inference.predictor import Listener, Prediction
from mer.utils.errors import AudioError, ConfigError
from mer.utils.parallel import one_thread

__all__ = ["Limits", "application"]

MB = 2**20
FORM = 2**14  # bytes that a form may add to its file
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)  # bounds of the histogram


@dataclass(frozen=True, slots=True)
class Limits:
    """What is taken: requests at once, `megabytes` and `seconds` of sound each, `patience` s for a body.

    `workers` threads work on them, of one torch thread each; `batch_window` s are waited for others to look
    at together, 0 for none.
    """

    inside: int = 32
    megabytes: float = 50.0
    seconds: float = 900.0
    patience: float = 30.0
    workers: int = 2
    batch_window: float = 0.0


class WindowAnswer(BaseModel):
    """One window: its place in the clip in seconds, and its probabilities by emotion."""

    start: float
    end: float
    probabilities: dict[str, float]


class Answer(BaseModel):
    """The emotion that a clip is likeliest to induce; `unsure` if the second comes within 0.1."""

    emotion: str
    unsure: bool
    probabilities: dict[str, float]
    windows: list[WindowAnswer]
    remarks: list[str]


class Health(BaseModel):
    """What is served, and how many requests are inside of how many that may be."""

    status: str
    model: str
    classes: list[str]
    inside: int
    limit: int


class Figures:
    """What `/metrics` tells, in Prometheus' text format."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = Counter("mer_requests", "Requests to predict, by HTTP status", ["status"], **own)
        self.seconds = Histogram(
            "mer_request_seconds", "Time from the first byte to the answer", buckets=SECONDS, **own
        )
        self.inside = Gauge("mer_requests_inside", "Requests that are being worked on or wait", **own)

        self.now = 0

    def moved(self, by: int) -> None:
        """Count requests that come in, or go."""
        self.now += by
        self.inside.set(self.now)

    def text(self) -> bytes:
        """All of them."""
        return generate_latest(self.registry)


class Door:
    """ASGI middleware that lets in so many POST requests at once, each of limited size and slowness."""

    def __init__(self, app: Any, limits: Limits, figures: Figures) -> None:
        self.app, self.limits, self.figures = app, limits, figures
        self.most = int(limits.megabytes * MB) + FORM

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        """Answer at once, or pass on."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        if refusal := self._refusal(scope):
            self.figures.requests.labels(refusal.status_code).inc()
            await refusal(scope, receive, send)
            return
        self.figures.moved(1)
        began, statuses = time.monotonic(), []
        try:
            await self.app(scope, self._measured(receive), _noting(send, statuses))
        finally:
            self.figures.moved(-1)
            self.figures.seconds.observe(time.monotonic() - began)
            self.figures.requests.labels(statuses[0] if statuses else 499).inc()

    def _refusal(self, scope: dict) -> JSONResponse | None:
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self.most:
            return _error(413, self._too_large)
        if self.figures.now >= self.limits.inside:
            busy = f"{self.figures.now} requests are being worked on; come again in a second"
            return _error(429, busy, {"Retry-After": "1"})
        return None

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
                raise HTTPException(408, f"no whole body within {self.limits.patience:g} s") from None
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


def _error(status: int, text: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": text}, status, headers)


def application(listener: Listener, limits: Limits) -> FastAPI:
    """The app; `listener` is asked by several threads at once."""
    figures = Figures()
    if limits.batch_window:
        for network in listener.networks:
            if not network.model.always_training:  # else an answer would depend on who else asks
                network.look = Gatherer(network.look, limits.batch_window)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        with one_thread(), ThreadPoolExecutor(limits.workers) as app.state.pool:
            yield

    app = FastAPI(title="mer", description=__doc__, lifespan=life, version="1")
    app.add_middleware(Door, limits=limits, figures=figures)
    _add_errors(app)

    @app.get("/health")
    async def health() -> Health:
        """Whether it answers, and what."""
        return Health(
            status="ok",
            model=listener.card.title,
            classes=list(listener.card.classes),
            inside=figures.now,
            limit=limits.inside,
        )

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(figures.text(), media_type=CONTENT_TYPE_LATEST)

    @app.post("/predict")
    async def predict(
        file: Annotated[UploadFile, File(description="WAV, FLAC, Ogg, MP3, AIFF or AU")],
    ) -> Answer:
        """The emotion of one clip."""
        content, name = await file.read(), file.filename or "clip"
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(app.state.pool, _answer, listener, content, name, limits.seconds)

    return app


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens at that address; raises ConfigError."""
    try:
        place = socket.create_server((host, port), backlog=128)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"cannot listen on {host}:{port} ({error}); choose another --port") from error
    # Else the end of an answer waits 40 ms on a kept line, until the client has acknowledged its beginning.
    place.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return place


def _answer(listener: Listener, content: bytes, name: str, seconds: float) -> Answer:
    waveform = load(content, listener.card.config.audio, name=name, max_seconds=seconds)
    found: Prediction = listener.predict_waveform(waveform)
    return Answer(unsure=found.unsure, **found.to_dict())


def _add_errors(app: FastAPI) -> None:
    """What goes wrong, as one line in JSON."""

    @app.exception_handler(AudioError)
    async def of_audio(_: Request, error: AudioError) -> JSONResponse:
        return _error(422, str(error))

    @app.exception_handler(HTTPException)
    async def of_http(_: Request, error: HTTPException) -> JSONResponse:
        return _error(error.status_code, str(error.detail))

"""Serves a checkpoint over HTTP: `POST /predict` with an audio file, `GET /health`, `/metrics`, `/docs`.

Limits on requests are in `mer.inference.admission`, limits on connections in `mer.inference.sockets`.
"""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.requests import ClientDisconnect

from mer.audio.decode import hear
from mer.audio.formats import AUDIO_NAMES
from mer.inference.admission import FORM, MB, Admission, Inside, Limits, error_response
from mer.inference.batching import Gatherer
from mer.inference.predictor import Listener, Prediction
from mer.inference.sockets import bound, server
from mer.utils.errors import AudioError
from mer.utils.parallel import one_thread

__all__ = ["MB", "Limits", "application", "bound", "server"]

FIELDS = 8  # parts of a form in addition to its file; they are ignored
NAME = 80  # characters of a file name that errors quote
SEND = "send a form (multipart/form-data) with one part `file` that has a file name: curl -F file=@clip.wav"
PLACES = "POST a file to /predict, or GET /health, /metrics or /docs"
REMEDIES = {400: SEND, 404: PLACES, 405: PLACES}
FORM_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": AUDIO_NAMES,
                        }
                    },
                }
            }
        },
    }
}


class WindowAnswer(BaseModel):
    """One window: its start and end in seconds, and the probability of each emotion."""

    start: float
    end: float
    probabilities: dict[str, float]


class Answer(BaseModel):
    """The most probable emotion of a clip; `unsure` if it leads the second by less than 0.1."""

    emotion: str
    unsure: bool
    probabilities: dict[str, float]
    windows: list[WindowAnswer]
    remarks: list[str]


class Health(BaseModel):
    """The served model, the number of admitted requests (`inside`), and the most allowed (`limit`)."""

    status: str
    model: str
    classes: list[str]
    inside: int
    limit: int


class Problem(BaseModel):
    """Why there is no answer and what to do about it, in one line."""

    error: str


ERRORS = {
    400: "the form cannot be read",
    408: "the body arrived too slowly",
    413: "the file is too large",
    422: "there is no file, or it cannot be used as a clip",
    429: "too many requests at once; see Retry-After",
    503: "the server is stopping; see Retry-After",
}


def application(listener: Listener, limits: Limits) -> FastAPI:
    """Build the application.

    Parameters
    ----------
    listener
        A loaded checkpoint. Several threads use it at the same time.
    limits
        Limits on requests.

    Returns
    -------
    FastAPI
        The application; its `state.inside` has the admitted requests.
    """
    inside = Inside()
    _batch_requests(listener, limits.batch_window)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with one_thread(), ThreadPoolExecutor(limits.workers) as app.state.pool:
            yield

    app = FastAPI(title="mer", description=__doc__, lifespan=lifespan, version="1")
    app.state.inside = inside
    app.add_middleware(Admission, limits=limits, inside=inside)
    _add_errors(app)

    @app.head("/health", include_in_schema=False)
    @app.get("/health")
    async def health() -> Health:
        """The state of the server and the model that it serves."""
        return Health(
            status="ok",
            model=listener.card.title,
            classes=list(listener.card.classes),
            inside=len(inside),
            limit=limits.inside,
        )

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(inside.text(), media_type=CONTENT_TYPE_LATEST)

    problems = {status: {"model": Problem, "description": text} for status, text in ERRORS.items()}

    @app.post("/predict", openapi_extra=FORM_BODY, responses=problems)
    async def predict(request: Request) -> Answer:
        """Predict the emotion of one clip."""
        content, name = await _upload(request)
        return await _in_turn(request, listener, content, name, limits.seconds)

    return app


def _batch_requests(listener: Listener, patience: float) -> None:
    """Batch the requests that reach a network within `patience` seconds; 0 turns batching off."""
    for network in listener.networks if patience else ():
        if network.model.answers_alone:  # else an answer would depend on other requests
            network.look = Gatherer(network.look, patience)


async def _upload(request: Request) -> tuple[bytes, str]:
    """The file of a form, and its name. Other parts are never quoted, since one may be the file itself."""
    try:
        async with request.form(max_files=1, max_fields=FIELDS, max_part_size=FORM) as form:
            part = form.get("file")
            if not isinstance(part, UploadFile):
                raise HTTPException(422, f"no file; {SEND}")
            content, name = await part.read(), part.filename or "clip"
    except UnicodeError:  # a charset that cannot decode the names
        raise HTTPException(400, "the names in the form are not text") from None
    return content, name if len(name) <= NAME else f"{name[:NAME]}..."


async def _in_turn(request: Request, listener: Listener, content: bytes, name: str, seconds: float) -> Answer:
    """Predict in a worker thread. A waiting request is dropped if the client leaves or the server stops."""
    job = request.app.state.pool.submit(_answer, listener, content, name, seconds)
    work = asyncio.wrap_future(job)
    leaving = asyncio.create_task(_left(request))
    try:
        await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done() and job.cancel():
            raise ClientDisconnect
        return await work
    except asyncio.CancelledError:
        work.cancel()  # this also cancels the job
        raise
    finally:
        leaving.cancel()
        with suppress(asyncio.CancelledError):
            await leaving


async def _left(request: Request) -> None:
    """Return when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _answer(listener: Listener, content: bytes, name: str, seconds: float) -> Answer:
    sound = hear(content, listener.card.config.audio, name=name, max_seconds=seconds)
    found: Prediction = listener.answer(sound.waveform, sound.remarks)
    return Answer(unsure=found.unsure, **found.to_dict())


def _add_errors(app: FastAPI) -> None:
    """Answer errors with one line of JSON."""

    @app.exception_handler(AudioError)
    async def of_audio(_: Request, error: AudioError) -> JSONResponse:
        return error_response(422, str(error))

    @app.exception_handler(AnyHTTPException)
    async def of_http(_: Request, error: AnyHTTPException) -> JSONResponse:
        remedy = REMEDIES.get(error.status_code)
        text = f"{str(error.detail).rstrip('.')}; {remedy}" if remedy else str(error.detail)
        return error_response(error.status_code, text, error.headers)

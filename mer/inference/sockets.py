"""The connections of `mer serve`: their number, how long one may be silent, and how the server stops.

uvicorn waits without limit for the headers of a request, and accepts connections until the process has no
file descriptors left. Here a connection without a request is closed after `HEAD_SECONDS`. If too many
connections are open, the one that has waited longest is closed, so that a new client can always connect.
"""

import asyncio
import logging
import resource
import socket
import sys
import time
from collections import OrderedDict
from functools import partial
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from mer.inference.admission import Inside, Limits, error_response
from mer.utils.errors import ConfigError

__all__ = ["bound", "most_connections", "server"]

MOST = 1000  # open connections; each takes about 20 KB
LEAST = 64  # open connections that must be possible
HEAD_SECONDS = 10.0  # to receive all headers of a request, counted from the connection or the last response
STALLED_SECONDS = 10.0  # for a client to read more of its response
KEEP_SECONDS = 5  # that an idle connection is kept after a response
DRAIN_SECONDS = 10.0  # for the admitted requests to end when the server stops
QUEUE = 4096  # connections that the system holds until they are accepted, if it allows so many
AT_ONCE = 16  # at most 1/16 of all connections are accepted at a time, so that free descriptors suffice
HEAD_BYTES = 2**14
LOG_SECONDS = 60.0  # between two log lines of the same kind

log = logging.getLogger("mer.inference.sockets")


def most_connections() -> int:
    """Largest number of open connections: half of the limit on open files (`ulimit -n`), at most 1000.

    The other half is for the model, for uploads, and for connections that are being opened or closed.

    Raises
    ------
    ConfigError
        If the limit on open files is below 128.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST if files == resource.RLIM_INFINITY else min(MOST, files // 2)
    if most < LEAST:
        raise ConfigError(f"only {files} files may be open at once; raise it to {2 * LEAST}: ulimit -n 1024")
    return most


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens on `host` and `port`. Raises ConfigError if it cannot."""
    try:
        place = socket.create_server((host, port), backlog=QUEUE)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"cannot listen on {host}:{port} ({error}); choose another --port") from error
    # Without it, the end of a response on a reused connection waits 40 ms for the client to acknowledge the
    # beginning.
    place.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return place


def server(app: FastAPI, limits: Limits) -> uvicorn.Server:
    """Build the server.

    Parameters
    ----------
    app
        An application made by `mer.inference.serve.application`.
    limits
        Limits on requests.

    Raises
    ------
    ConfigError
        If the limit on open files is too low for `limits.inside` requests.
    """
    most = most_connections()
    if limits.inside > most // 2:
        raise ConfigError(
            f"{limits.inside} requests at once need more files than may be open; use at most {most // 2}, or "
            "raise ulimit -n"
        )
    for name in ("uvicorn.error", "asyncio", log.name):
        logging.getLogger(name).addFilter(SELDOM)
    config = uvicorn.Config(
        app,
        http=partial(Connection, idle=Idle(most)),
        ws="none",
        log_level="warning",
        access_log=False,
        backlog=max(most // AT_ONCE, 1),
        timeout_keep_alive=KEEP_SECONDS,
        timeout_graceful_shutdown=1,  # seconds, after DRAIN_SECONDS
        h11_max_incomplete_event_size=HEAD_BYTES,
    )
    return Server(config, app.state.inside)


class Server(uvicorn.Server):
    """A uvicorn server that, when told to stop, listens until all admitted requests are answered."""

    def __init__(self, config: uvicorn.Config, inside: Inside) -> None:
        super().__init__(config)
        self.inside = inside

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen with a long queue. `backlog` stays small, since asyncio accepts that many at a time."""
        await super().startup(sockets)
        for place in sockets or ():
            place.listen(QUEUE)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait for the admitted requests, answer others with 503, then stop listening."""
        await self.inside.drain(DRAIN_SECONDS, hurry=lambda: self.force_exit)
        await super().shutdown(sockets)


class Idle:
    """The connections without a running request, in the order in which they began to wait."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.waiting: OrderedDict[Connection, asyncio.TimerHandle] = OrderedDict()

    def wait(self, connection: "Connection", seconds: float) -> None:
        """Close a connection after `seconds`, unless `work` is called before."""
        self.work(connection)
        self.waiting[connection] = connection.loop.call_later(seconds, self.close, connection)

    def work(self, connection: "Connection") -> None:
        """Cancel the timer of a connection, since it has a running request."""
        if timer := self.waiting.pop(connection, None):
            timer.cancel()

    def close(self, connection: "Connection") -> None:
        """Close a connection at once, without waiting for data in either direction."""
        self.work(connection)
        connection.connections.discard(connection)
        connection.transport.abort()

    def make_room(self, connections: set) -> None:
        """Close the connections that have waited longest, until at most `most` are open."""
        if len(connections) > self.most:
            log.warning("%d connections are open, the most; those that wait longest are closed", self.most)
        while len(connections) > self.most and self.waiting:
            self.close(next(iter(self.waiting)))


class Connection(H11Protocol):
    """A uvicorn connection that is closed if the client sends a request or reads a response too slowly."""

    def __init__(self, *args: Any, idle: Idle, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.idle = idle

    def _is_working(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Wait for the first request."""
        super().connection_made(transport)
        self.idle.wait(self, HEAD_SECONDS)
        self.idle.make_room(self.connections)

    def data_received(self, data: bytes) -> None:
        """Receive part of a request."""
        super().data_received(data)
        if self._is_working() and not self.flow.write_paused:
            self.idle.work(self)

    def on_response_complete(self) -> None:
        """Wait for the next request, unless it has begun, and for the client to read the last bytes."""
        super().on_response_complete()
        if not self._is_working():
            self.idle.wait(self, HEAD_SECONDS)

    def pause_writing(self) -> None:
        """Start to wait for the client to read its response."""
        super().pause_writing()
        self.idle.wait(self, STALLED_SECONDS)

    def resume_writing(self) -> None:
        """Stop the timer if the request is still running."""
        super().resume_writing()
        if self._is_working():
            self.idle.work(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.idle.work(self)
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer invalid HTTP with one line of JSON, and too long headers with status 431."""
        reason = sys.exc_info()[1]
        status = getattr(reason, "error_status_hint", 400)
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            text = f"the headers are longer than {HEAD_BYTES} bytes" if status == 431 else msg
            answer = error_response(status, text, {"Connection": "close"})
            for event in (
                h11.Response(status_code=status, headers=answer.raw_headers),
                h11.Data(data=answer.body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event))
        self.transport.close()


class Seldom(logging.Filter):
    """Lets one log line of each kind per minute pass, so that no client can fill the disk."""

    def __init__(self) -> None:
        super().__init__()
        self.last: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """True if no record of this kind was passed in the last minute."""
        kind = (record.name, str(record.msg).split("\n", 1)[0][:100])
        if time.monotonic() - self.last.get(kind, -LOG_SECONDS) < LOG_SECONDS:
            return False
        if len(self.last) > 100:
            self.last.clear()
        self.last[kind] = time.monotonic()
        return True


SELDOM = Seldom()

"""The connections of `mer serve`: how many are open, how long one may be silent, and how the server stops.

uvicorn waits for the head of a request for as long as it takes, and accepts connections until no file can be
opened any more. Here a connection without a request has `HEAD_SECONDS` for the next one, and above a fixed
number of connections the one that has waited longest is closed, so a newcomer always finds room.
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

MOST = 1000  # connections; each takes some 20 KB
LEAST = 64
HEAD_SECONDS = 10.0  # for the whole head of a request, from the connection or the last answer on
STALLED_SECONDS = 10.0  # for a client to take more of its answer
KEEP_SECONDS = 5  # of silence after an answer
DRAIN_SECONDS = 10.0  # for the requests inside, once the server is to stop
QUEUE = 4096  # connections that the system holds until they are accepted, if it allows so many
AT_ONCE = 16  # this part of all connections is accepted at a time, so that the reserve is never used up
HEAD_BYTES = 2**14
LOG_SECONDS = 60.0  # between two log lines of one kind

log = logging.getLogger("mer.inference.sockets")


def most_connections() -> int:
    """How many connections may be open: half of the files that may be (`ulimit -n`), at most 1000.

    The other half is for the model, for uploads, and for connections on their way in or out. Raises
    ConfigError if the limit is too low to serve at all.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST if files == resource.RLIM_INFINITY else min(MOST, files // 2)
    if most < LEAST:
        raise ConfigError(f"only {files} files may be open at once; raise it to {2 * LEAST}: ulimit -n 1024")
    return most


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens at that address; raises ConfigError."""
    try:
        place = socket.create_server((host, port), backlog=QUEUE)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"cannot listen on {host}:{port} ({error}); choose another --port") from error
    # Else the end of an answer waits 40 ms on a kept line, until the client has acknowledged its beginning.
    place.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return place


def server(app: FastAPI, limits: Limits) -> uvicorn.Server:
    """A server for an app of `mer.inference.serve`; raises ConfigError if it may not open enough files."""
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
        timeout_graceful_shutdown=1,  # after the drain
        h11_max_incomplete_event_size=HEAD_BYTES,
    )
    return Server(config, app.state.inside)


class Server(uvicorn.Server):
    """uvicorn's, but on the signal to stop it goes on to listen until all inside are answered."""

    def __init__(self, config: uvicorn.Config, inside: Inside) -> None:
        super().__init__(config)
        self.inside = inside

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, with a longer queue than `backlog`, which is also how many are accepted at a time."""
        await super().startup(sockets)
        for place in sockets or ():
            place.listen(QUEUE)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer those inside, and others with a 503, then stop to listen."""
        await self.inside.drain(DRAIN_SECONDS, hurry=lambda: self.force_exit)
        await super().shutdown(sockets)


class Idle:
    """The connections on which no request is at work, in the order in which they began to wait."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.waiting: OrderedDict[Connection, asyncio.TimerHandle] = OrderedDict()

    def wait(self, connection: "Connection", seconds: float) -> None:
        """Close a connection after so many seconds, unless `work` is called before."""
        self.work(connection)
        self.waiting[connection] = connection.loop.call_later(seconds, self.close, connection)

    def work(self, connection: "Connection") -> None:
        """Let a connection be, while its request is worked on."""
        if timer := self.waiting.pop(connection, None):
            timer.cancel()

    def close(self, connection: "Connection") -> None:
        """Close a connection at once, whatever it is about to send or to take."""
        self.work(connection)
        connection.connections.discard(connection)
        connection.transport.abort()

    def make_room(self, connections: set) -> None:
        """Close those that have waited longest, until no more than the most are open."""
        if len(connections) > self.most:
            log.warning("%d connections are open, the most; those that wait longest are closed", self.most)
        while len(connections) > self.most and self.waiting:
            self.close(next(iter(self.waiting)))


class Connection(H11Protocol):
    """uvicorn's, but closed when the head of its next request, or the taking of an answer, is overdue."""

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
        """Take in a part of a request."""
        super().data_received(data)
        if self._is_working() and not self.flow.write_paused:
            self.idle.work(self)

    def on_response_complete(self) -> None:
        """Wait for the next request, unless it is there already, or for the client to take the last bytes."""
        super().on_response_complete()
        if not self._is_working():
            self.idle.wait(self, HEAD_SECONDS)

    def pause_writing(self) -> None:
        """Wait for the client to take its answer."""
        super().pause_writing()
        self.idle.wait(self, STALLED_SECONDS)

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        if self._is_working():
            self.idle.work(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self.idle.work(self)
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, like our other errors, and headers that are too long with 431."""
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
    """Lets one line of each kind through in a minute, so that no client can fill the disk with the log."""

    def __init__(self) -> None:
        super().__init__()
        self.last: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is the first of its kind for a minute."""
        kind = (record.name, str(record.msg).split("\n", 1)[0][:100])
        if time.monotonic() - self.last.get(kind, -LOG_SECONDS) < LOG_SECONDS:
            return False
        if len(self.last) > 100:
            self.last.clear()
        self.last[kind] = time.monotonic()
        return True


SELDOM = Seldom()

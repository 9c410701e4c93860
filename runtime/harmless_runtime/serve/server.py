"""Run an application until a signal comes, and finish what was accepted then."""

import logging
import math
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp

# Connections that wait to be accepted. If no more files can be open, asyncio reports that so often
# at a time (Python 3.11 to 3.13).
_BACKLOG = 100


def _allow_many_files() -> None:
    """Raise the limit of open files, each connection being one, as far as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _once_a_minute() -> Callable[[logging.LogRecord], bool]:
    """Return a filter: that no connection can be accepted is logged once a minute, in a line."""
    last = -math.inf

    def passes(record: logging.LogRecord) -> bool:
        nonlocal last
        if "socket.accept()" not in record.getMessage():
            return True
        record.exc_info = None
        is_due = time.monotonic() - last >= 60
        last = time.monotonic() if is_due else last
        return is_due

    return passes


class _Server(uvicorn.Server):
    """A server that a signal ends normally, and that closes connections without a request.

    uvicorn itself closes a connection only if nothing comes after an answer.

    Args:
        config: of uvicorn.
        idle_seconds: how long a connection is kept on which no request has arrived.
    """

    def __init__(self, config: uvicorn.Config, idle_seconds: float) -> None:
        super().__init__(config)
        self._idle_seconds = idle_seconds
        # For each connection without a request, the last one that was answered, and since when.
        self._idle: dict[Any, tuple[Any, float]] = {}

    async def on_tick(self, counter: int) -> bool:
        """Look at the connections about every second; return whether to end."""
        if counter % 10 == 0:
            self._close_idle()
        return await super().on_tick(counter)

    def _close_idle(self) -> None:
        now = time.monotonic()
        before, self._idle = self._idle, {}
        # Both protocols that uvicorn chooses from, h11 and httptools, keep their last request.
        connections: Iterable[Any] = self.server_state.connections
        for connection in connections:
            last = connection.cycle
            if last is None or last.response_complete:
                same, since = before.get(connection, (last, now))
                self._idle[connection] = last, since if same is last else now
        for connection, (_, since) in self._idle.items():
            if now - since > self._idle_seconds:
                connection.transport.close()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End; after a second Ctrl-C too each request gets an answer, that the server has ended."""
        await super().shutdown(sockets)
        if self.force_exit:  # uvicorn would let tasks and application die with tracebacks
            for task in self.server_state.tasks:
                task.cancel()
            await self.lifespan.shutdown()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Accept no more requests; wait for none after a second Ctrl-C.

        uvicorn itself would raise the signal again at the end.
        """
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def serve_until_signal(app: ASGIApp, place: socket.socket, seconds: float) -> None:
    """Answer requests at a bound socket until SIGINT or SIGTERM.

    Args:
        app: the application.
        place: the socket.
        seconds: how long a body may take to arrive, and its rows to be scored. A connection on
            which no request has arrived is closed after as long.
    """
    _allow_many_files()
    logging.getLogger("asyncio").addFilter(_once_a_minute())
    config = uvicorn.Config(
        app,
        log_level="error",  # a client could write a warning for each of its connections
        backlog=_BACKLOG,
        access_log=False,  # nothing of a request is logged
        server_header=False,
        # A body may take so long, and then its rows.
        timeout_graceful_shutdown=math.ceil(2 * seconds) + 2,
        lifespan="on",
    )
    _Server(config, seconds).run([place])

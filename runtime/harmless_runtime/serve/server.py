"""Run an application until a signal comes, and finish what was accepted then."""

import math
import signal
import socket
from types import FrameType

import uvicorn
from starlette.applications import Starlette


class _Server(uvicorn.Server):
    """A server that a signal ends normally."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Accept no more requests; wait for none after a second Ctrl-C.

        uvicorn itself would raise the signal again at the end.
        """
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def serve_until_signal(app: Starlette, place: socket.socket, seconds: float) -> None:
    """Answer requests at a bound socket until SIGINT or SIGTERM.

    Args:
        app: the application.
        place: the socket.
        seconds: how long requests may take that were accepted before the signal.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,  # nothing of a request is logged
        server_header=False,
        # A body may take so long, and then its rows.
        timeout_graceful_shutdown=math.ceil(2 * seconds) + 2,
        lifespan="on",
    )
    _Server(config).run([place])

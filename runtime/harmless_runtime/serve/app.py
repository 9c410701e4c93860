"""Answer requests over HTTP."""

import asyncio
import logging
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from harmless_runtime.model.engine import Engine
from harmless_runtime.rows.shapes import Reading
from harmless_runtime.serve.answers import Limits, RefusedError, check_token, json_answer
from harmless_runtime.serve.service import Service

logger = logging.getLogger(__name__)

_OPEN = ("/health", "/ready")
_ENDED = "the server ended before the rows were scored"
Answer = Callable[[Request], Awaitable[Response]]


class Application:
    """The server's application. It counts the requests that have no right answer.

    Args:
        engine: what scores.
        reading: how rows are read.
        limits: what requests may ask for.

    Attributes:
        unanswered: number of requests that have begun, and that nothing was answered to yet.
        cut_off: number of requests that were answered with 503, because the server had to end.
    """

    def __init__(self, engine: Engine, reading: Reading, limits: Limits) -> None:
        self.unanswered = self.cut_off = 0
        self._token = limits.token
        self._service = service = Service(engine, reading, limits)
        posts = {
            "/score": service.score,
            "/get_reward": service.get_reward,
            "/classify": service.classify,
        }
        gets = {
            "/health": service.health,
            "/ready": service.ready,
            "/metrics": service.show_metrics,
        }
        routes = [Route(path, self._guarded(act), methods=["POST"]) for path, act in posts.items()]
        routes += [Route(path, self._guarded(act), methods=["GET"]) for path, act in gets.items()]
        self._paths = posts.keys() | gets.keys()
        self._app = Starlette(
            routes=routes,
            lifespan=self._lifespan,
            exception_handlers={HTTPException: self._not_found},  # type: ignore[dict-item]
        )
        # A redirection would repeat what the client says is the host.
        self._app.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self.unanswered += 1
        # It comes here only while an answer is sent that the client does not take.
        with suppress(asyncio.CancelledError):
            await self._app(scope, receive, send)
            self.unanswered -= 1

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(self._service.close)

    async def _not_found(self, request: Request, error: HTTPException) -> Response:
        """Answer a path that is not here, or a method that the path does not take."""
        path = request.url.path
        known = path in self._paths
        self._service.metrics.not_found(path if known else "other", error.status_code)
        if known:
            reason = f"{path} does not take {request.method}"
        else:
            reason = f"there is no such path; there are {', '.join(sorted(self._paths))}"
        return json_answer(error.status_code, {"error": reason}, dict(error.headers or {}))

    def _guarded(self, answer: Answer) -> Answer:
        """Return what answers a request with JSON, whatever happens, and counts it."""

        async def respond(request: Request) -> Response:
            start = time.perf_counter()
            path = request.url.path
            try:
                if path not in _OPEN:
                    check_token(request, self._token)
                response = await answer(request)
            except RefusedError as error:
                traceback.clear_frames(error.__traceback__)  # which hold the body
                response = json_answer(error.status, {"error": error.reason}, error.headers)
            except asyncio.CancelledError:  # no time is left after a signal
                self.cut_off += 1
                response = json_answer(503, {"error": _ENDED})
            except Exception as error:
                where = "".join(traceback.format_tb(error.__traceback__))
                logger.error("a request failed with %s:\n%s", type(error).__name__, where)
                response = json_answer(500, {"error": f"the server failed: {type(error).__name__}"})
            seconds = time.perf_counter() - start
            self._service.metrics.request(path, response.status_code, seconds)
            return response

        return respond

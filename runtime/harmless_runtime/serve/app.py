"""Answer requests over HTTP."""

import asyncio
import hmac
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from harmless_runtime.errors import HarmlessError
from harmless_runtime.model.engine import Engine
from harmless_runtime.model.tokenizer import Encoded
from harmless_runtime.rows.records import Pair, Reject
from harmless_runtime.rows.shapes import Reading
from harmless_runtime.serve.batcher import Batcher, Job, QueueFullError
from harmless_runtime.serve.metrics import Metrics
from harmless_runtime.serve.protocols import (
    Asked,
    BadBodyError,
    read_classify,
    read_remote,
    read_rows,
)
from harmless_runtime.serve.queries import QueryParser

_OPEN = ("/health", "/ready")


@dataclass(frozen=True)
class Limits:
    """What requests may ask for.

    Attributes:
        wait_seconds: how long a request waits for others if the device is idle.
        most_waiting: most rows that wait. Further requests are answered with 429.
        most_rows: most rows of a request.
        most_bytes: most bytes of a body.
        seconds: how long a request may take.
        token: what clients have to send as a bearer token, if it is not None.
    """

    wait_seconds: float = 0.005
    most_waiting: int = 16_384
    most_rows: int = 1024
    most_bytes: int = 8 * 2**20
    seconds: float = 60.0
    token: str | None = None


class RefusedError(Exception):
    """A request is answered with an error.

    Attributes:
        status: the status code.
        reason: what is wrong, in a sentence.
        headers: further headers.
    """

    def __init__(self, status: int, reason: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, headers or {}


class Service:
    """Answers requests with an engine's rewards."""

    def __init__(self, engine: Engine, reading: Reading, limits: Limits) -> None:
        self._engine = engine
        self._limits = limits
        self._reading = reading
        self._parse = QueryParser(reading)
        self.metrics = Metrics(lambda: self.batcher.waiting_rows)
        self.batcher = Batcher(
            engine,
            wait_seconds=limits.wait_seconds,
            most_waiting=limits.most_waiting,
            on_set=self.metrics.scored,
        )

    async def score(self, request: Request) -> Response:
        """Answer `/score`."""
        return await self._answered(request, lambda body: read_rows(body, self._reading))

    async def get_reward(self, request: Request) -> Response:
        """Answer OpenRLHF's `/get_reward`."""
        return await self._answered(request, lambda body: read_remote(body, self._parse))

    async def classify(self, request: Request) -> Response:
        """Answer vLLM's `/classify`."""
        return await self._answered(request, lambda body: read_classify(body, self._parse))

    async def health(self, _: Request) -> Response:
        """Say that the model is loaded: the server answers nothing before."""
        return _json(200, {"status": "ok"})

    async def ready(self, _: Request) -> Response:
        """Say whether rows are accepted now."""
        if self.batcher.is_full:
            return _json(503, {"status": "busy"})
        return _json(200, {"status": "ready"})

    async def show_metrics(self, _: Request) -> Response:
        """Answer `/metrics`."""
        return Response(self.metrics.text(), media_type=self.metrics.content_type)

    async def _answered(self, request: Request, read: Callable[[bytes], Asked]) -> Response:
        body = await self._body(request)
        try:
            asked = await run_in_threadpool(read, body)
        except (BadBodyError, HarmlessError) as error:
            raise RefusedError(400, str(error)) from None
        if len(asked.rows) > self._limits.most_rows:
            most = f"{self._limits.most_rows:,}"
            raise RefusedError(413, f"{len(asked.rows):,} rows are more than {most}")
        rejects = [row for row in asked.rows if isinstance(row, Reject)]
        if rejects and not asked.may_lack:
            raise RefusedError(422, f"row {rejects[0].number}: {rejects[0].reason}")
        places = [place for place, row in enumerate(asked.rows) if isinstance(row, Pair)]
        texts = [(row.question, row.answer) for row in asked.rows if isinstance(row, Pair)]
        encoded = await run_in_threadpool(self._engine.tokenizer.encode, texts)
        rewards: list[float | None] = [None] * len(asked.rows)
        scores = await self._scored(request, self._submitted(encoded))
        for place, score in zip(places, scores.tolist(), strict=True):
            if math.isfinite(score):
                rewards[place] = score
            elif not asked.may_lack:
                raise RefusedError(422, f"row {place}: {self._engine.why_no_score(score)}")
        return _json(200, asked.answer(rewards, sum(len(row.ids) for row in encoded)))

    def _submitted(self, encoded: Sequence[Encoded]) -> Job:
        try:
            return self.batcher.submit(encoded)
        except QueueFullError as error:
            again = {"Retry-After": str(max(1, math.ceil(error.seconds)))}
            raise RefusedError(429, str(error), again) from None

    async def _scored(self, request: Request, job: Job) -> NDArray[np.float32]:
        """Wait for the rewards of a job, as long as the client waits and time is left."""
        scored = asyncio.wrap_future(job.future)
        gone = asyncio.create_task(_hung_up(request))
        try:
            waited: set[asyncio.Future[Any]] = {scored, gone}
            await asyncio.wait(
                waited,
                timeout=self._limits.seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if scored.done():
                return scored.result()
            if gone.done():
                raise RefusedError(499, "the client hung up")
            raise RefusedError(504, f"not scored within {self._limits.seconds:g} s")
        except HarmlessError as error:
            raise RefusedError(500, str(error)) from None
        finally:
            gone.cancel()
            if not scored.done():
                self.batcher.cancel(job)

    async def _body(self, request: Request) -> bytes:
        """Read the body of a request, and no more of it than is allowed."""
        most = self._limits.most_bytes
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > most:
                raise RefusedError(413, f"the body has more than {most:,} bytes")
        return bytes(body)


async def _hung_up(request: Request) -> None:
    """Wait until the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _json(status: int, value: object, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), status, headers, "application/json")


def make_app(engine: Engine, reading: Reading, limits: Limits) -> Starlette:
    """Return the application.

    Args:
        engine: what scores.
        reading: how rows are read.
        limits: what requests may ask for.
    """
    service = Service(engine, reading, limits)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(service.batcher.close)

    def guarded(
        answer: Callable[[Request], Awaitable[Response]],
    ) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:
            start = time.perf_counter()
            path = request.url.path
            try:
                if path not in _OPEN:
                    _check_token(request, limits.token)
                response = await asyncio.wait_for(answer(request), 2 * limits.seconds)
            except RefusedError as error:
                response = _json(error.status, {"error": error.reason}, error.headers)
            except (ClientDisconnect, TimeoutError):
                response = _json(408, {"error": "the request did not arrive in time"})
            service.metrics.request(path, response.status_code, time.perf_counter() - start)
            return response

        return respond

    posts = {
        "/score": service.score,
        "/get_reward": service.get_reward,
        "/classify": service.classify,
    }
    gets = {"/health": service.health, "/ready": service.ready, "/metrics": service.show_metrics}
    routes = [Route(path, guarded(act), methods=["POST"]) for path, act in posts.items()]
    routes += [Route(path, guarded(act), methods=["GET"]) for path, act in gets.items()]
    return Starlette(routes=routes, lifespan=lifespan)


def _check_token(request: Request, token: str | None) -> None:
    """Raise RefusedError if a request lacks the token. How long that takes tells nothing of it."""
    if token is None:
        return
    given = request.headers.get("authorization", "").removeprefix("Bearer ")
    if not hmac.compare_digest(given.encode(), token.encode()):
        raise RefusedError(
            401, "the bearer token is missing or wrong", {"WWW-Authenticate": "Bearer"}
        )

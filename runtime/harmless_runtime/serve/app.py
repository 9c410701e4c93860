"""Answer requests over HTTP."""

import asyncio
import logging
import math
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

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
from harmless_runtime.serve.answers import Limits, RefusedError, check_token, json_answer
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

logger = logging.getLogger(__name__)

_OPEN = ("/health", "/ready")


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
        """Say whether the server can score. It answers nothing before the model is loaded."""
        if self.batcher.failure is not None:
            return json_answer(503, {"status": "failing", "error": self.batcher.failure})
        return json_answer(200, {"status": "ok"})

    async def ready(self, _: Request) -> Response:
        """Say whether rows are accepted now."""
        if self.batcher.is_full or self.batcher.failure is not None:
            return json_answer(503, {"status": "busy"})
        return json_answer(200, {"status": "ready"})

    async def show_metrics(self, _: Request) -> Response:
        """Answer `/metrics`."""
        return Response(self.metrics.text(), media_type=self.metrics.content_type)

    async def _answered(self, request: Request, read: Callable[[bytes], Asked]) -> Response:
        body = await self._body(request)
        asked, encoded = await run_in_threadpool(self._tokenised, read, body)
        rewards: list[float | None] = [None] * len(asked.rows)
        scores = await self._scored(request, self._submitted(encoded))
        places = (place for place, row in enumerate(asked.rows) if isinstance(row, Pair))
        for place, score in zip(places, scores.tolist(), strict=True):
            if math.isfinite(score):
                rewards[place] = score
            elif not asked.may_lack:
                raise RefusedError(422, f"row {place}: {self._engine.why_no_score(score)}")
        return json_answer(200, asked.answer(rewards, sum(len(row.ids) for row in encoded)))

    def _tokenised(
        self, read: Callable[[bytes], Asked], body: bytes
    ) -> tuple[Asked, list[Encoded]]:
        """Return what a body asks for, and the tokens of its rows that can be scored."""
        try:
            asked = read(body)
        except (BadBodyError, HarmlessError) as error:
            raise RefusedError(400, str(error)) from None
        if len(asked.rows) > self._limits.most_rows:
            most = f"{self._limits.most_rows:,}"
            raise RefusedError(413, f"{len(asked.rows):,} rows are more than {most}")
        rejects = [row for row in asked.rows if isinstance(row, Reject)]
        if rejects and not asked.may_lack:
            raise RefusedError(422, f"row {rejects[0].number}: {rejects[0].reason}")
        pairs = [row for row in asked.rows if isinstance(row, Pair)]
        return asked, self._engine.tokenizer.encode([(p.question, p.answer) for p in pairs])

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
        try:
            async with asyncio.timeout(self._limits.seconds):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > most:
                        raise RefusedError(413, f"the body has more than {most:,} bytes")
        except ClientDisconnect:
            raise RefusedError(499, "the client hung up") from None
        except TimeoutError:
            seconds = f"{self._limits.seconds:g}"
            raise RefusedError(408, f"the body did not arrive within {seconds} s") from None
        return bytes(body)


async def _hung_up(request: Request) -> None:
    """Wait until the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


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
                    check_token(request, limits.token)
                response = await answer(request)
            except RefusedError as error:
                traceback.clear_frames(error.__traceback__)  # which hold the body
                response = json_answer(error.status, {"error": error.reason}, error.headers)
            except Exception as error:
                where = "".join(traceback.format_tb(error.__traceback__))
                logger.error("a request failed with %s:\n%s", type(error).__name__, where)
                response = json_answer(500, {"error": f"the server failed: {type(error).__name__}"})
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

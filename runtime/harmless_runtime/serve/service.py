"""Answer a request: read its rows, tokenise them piece by piece, and have them scored."""

import asyncio
import logging
import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from harmless_runtime.errors import HarmlessError
from harmless_runtime.model.engine import Engine
from harmless_runtime.model.tokenizer import UNBROKEN, Encoded
from harmless_runtime.rows.output_lines import score_text
from harmless_runtime.rows.records import Pair, Reject
from harmless_runtime.rows.shapes import Reading
from harmless_runtime.scored import about_marks
from harmless_runtime.serve.answers import Limits, RefusedError, json_answer
from harmless_runtime.serve.batcher import Batcher, Job, Place, QueueFullError
from harmless_runtime.serve.bodies import BadBodyError, Watch, stripped
from harmless_runtime.serve.entrance import Entrance, Stay
from harmless_runtime.serve.metrics import Metrics
from harmless_runtime.serve.protocols import (
    Asked,
    Reward,
    read_classify,
    read_remote,
    read_rows,
)
from harmless_runtime.serve.queries import QueryParser
from harmless_runtime.windows import Refused

logger = logging.getLogger(__name__)

# Threads that read and tokenise. Each piece of a request waits for one of them in its turn. The
# tokenizer itself uses all cores, and more threads take longer to hand over a small request.
_THREADS = 2
# Rows and characters that are tokenised at a time: a piece takes no more than some hundredths of a
# second, unless a single row is longer.
_PIECE_ROWS, _PIECE_CHARACTERS = 128, 2**18
# Longer bodies have a thread of their own, which they take in turns.
_LONG_BODY = 2**18

Result = TypeVar("Result")
# Makes of a body what it asks for.
Read = Callable[[bytes, Watch], Asked]


class Service:
    """Answers requests with an engine's rewards.

    Args:
        engine: what scores.
        reading: how rows are read.
        limits: what requests may ask for.
    """

    def __init__(self, engine: Engine, reading: Reading, limits: Limits) -> None:
        self._engine = engine
        self._limits = limits
        self._reading = reading
        self._parse = QueryParser(reading)
        self._told_marks = False
        self._threads = ThreadPoolExecutor(_THREADS, "tokeniser")
        self._thread_of_long = ThreadPoolExecutor(1, "long bodies")
        self.metrics = Metrics(lambda: self.batcher.waiting_rows, lambda: self._entrance.requests)
        self.batcher = Batcher(
            engine,
            wait_seconds=limits.wait_seconds,
            most_waiting=limits.most_waiting,
            on_set=self.metrics.scored,
        )
        self._entrance = Entrance(self.batcher)

    def close(self) -> None:
        """Score what waits, and end the threads."""
        self._threads.shutdown(cancel_futures=True)
        self._thread_of_long.shutdown(cancel_futures=True)
        self.batcher.close()

    async def score(self, request: Request) -> Response:
        """Answer `/score`."""
        most = self._limits.most_rows
        return await self._answered(request, lambda b, w: read_rows(b, self._reading, w, most))

    async def get_reward(self, request: Request) -> Response:
        """Answer OpenRLHF's `/get_reward`."""
        hold = self._limits.hold_seconds
        return await self._answered(request, lambda b, _: read_remote(b, self._parse), hold)

    async def classify(self, request: Request) -> Response:
        """Answer vLLM's `/classify`."""
        hold = self._limits.hold_seconds
        return await self._answered(request, lambda b, _: read_classify(b, self._parse), hold)

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

    async def _answered(self, request: Request, read: Read, hold_seconds: float = 0.0) -> Response:
        """Answer a request, as long as the client waits.

        Args:
            request: the request.
            read: makes of its body what it asks for.
            hold_seconds: how long it is held if there is no room for its rows.
        """
        body = await self._body(request)
        work = asyncio.create_task(self._in_time(read, body, hold_seconds))
        gone = asyncio.create_task(_hung_up(request))
        try:
            waited: set[asyncio.Task[Any]] = {work, gone}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            raise RefusedError(499, "the client hung up")
        finally:
            work.cancel()
            gone.cancel()

    async def _in_time(self, read: Read, body: bytes, hold_seconds: float) -> Response:
        """Return the answer to a body, as long as time is left."""
        try:
            async with asyncio.timeout(self._limits.seconds) as limit:
                until = asyncio.get_running_loop().time() + hold_seconds
                return await self._worked(read, body, Stay(len(body), until, limit))
        except TimeoutError:
            raise RefusedError(504, f"not scored within {self._limits.seconds:g} s") from None

    async def _worked(self, read: Read, body: bytes, stay: Stay) -> Response:
        """Return the answer to a body. All that it began is given up if it is cancelled."""
        given_up = threading.Event()
        try:
            with self.batcher.place() as place:
                self._entrance.approach(place, stay)
                # A long body is read as one piece, and short ones do not wait for that.
                threads = self._thread_of_long if len(body) > _LONG_BODY else self._threads
                begin = self._begun, read, body, place, given_up
                asked, rows = await _in_thread(threads, *begin)
                await self._entrance.enter(place, asked.count, stay)
                while len(rows) < asked.count:
                    rows += await _in_thread(threads, self._piece, asked, given_up)
                encoded = [row for row in rows if isinstance(row, Encoded)]
                job = self.batcher.submit(encoded, place)
            scores = iter(await self._scored(job))
        except QueueFullError as error:
            again = {"Retry-After": str(max(1, math.ceil(error.seconds)))}
            raise RefusedError(429, str(error), again) from None
        finally:
            given_up.set()
        rewards: list[Reward] = [None] * asked.count
        for number, row in enumerate(rows):
            if isinstance(row, Encoded):
                rewards[number] = self._reward(next(scores), number, asked)
        return json_answer(200, asked.answer(rewards, job.tokens))

    def _begun(
        self, read: Read, body: bytes, place: Place, given_up: threading.Event
    ) -> tuple[Asked, list[Encoded | Reject]]:
        """Return what a body asks for, and its first rows, tokenised, if there is room for it."""
        try:
            asked = read(stripped(body), lambda: _look(given_up))
        except (BadBodyError, HarmlessError) as error:
            raise RefusedError(400, str(error)) from None
        if asked.count > self._limits.most_rows:
            raise RefusedError(413, f"the request has more than {self._limits.most_rows:,} rows")
        try:
            self.batcher.resize(place, asked.count)
        except QueueFullError:
            return asked, []
        return asked, self._piece(asked, given_up)

    def _piece(self, asked: Asked, given_up: threading.Event) -> list[Encoded | Reject]:
        """Return the next rows that a request asks for, tokenised.

        Raises:
            RefusedError: a row cannot be scored, and each has to be.
        """
        rows: list[Pair | Reject] = []
        size = 0
        for row in asked.rows:
            _look(given_up)
            rows.append(row)
            size += len(row.question) + len(row.answer) if isinstance(row, Pair) else 0
            if len(rows) == _PIECE_ROWS or size >= _PIECE_CHARACTERS:
                break
        pairs = [row for row in rows if isinstance(row, Pair)]
        self._tell_marks([pair for pair in pairs if pair.mark])
        texts = [(pair.question, pair.answer) for pair in pairs]
        encoded = iter(self._engine.tokenizer.encode_each(texts))
        tokenised = [
            row if isinstance(row, Reject) else next(encoded) or Refused(row, UNBROKEN).reject
            for row in rows
        ]
        rejects = (row for row in tokenised if isinstance(row, Reject))
        if not asked.may_lack and (reject := next(rejects, None)):
            raise RefusedError(422, f"row {reject.number}: {reject.reason}")
        return tokenised

    def _tell_marks(self, marked: list[Pair]) -> None:
        """Count rows with marks of chat templates, and log a warning for the first of them."""
        self.metrics.marked(len(marked))
        if marked and not self._told_marks:
            self._told_marks = True
            logger.warning("%s", about_marks(marked, ""))

    async def _scored(self, job: Job) -> NDArray[np.float32]:
        try:
            return await asyncio.wrap_future(job.future)
        except HarmlessError as error:
            raise RefusedError(500, str(error)) from None
        finally:
            if not job.future.done() or job.future.cancelled():
                self.batcher.cancel(job)

    def _reward(self, score: np.float32, number: int, asked: Asked) -> Reward:
        if np.isfinite(score):
            return msgspec.Raw(score_text(score))
        if asked.may_lack:
            return None
        raise RefusedError(422, f"row {number}: {self._engine.why_no_score(float(score))}")

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


async def _in_thread(
    threads: ThreadPoolExecutor, act: Callable[..., Result], *arguments: Any
) -> Result:
    return await asyncio.get_running_loop().run_in_executor(threads, act, *arguments)


def _look(given_up: threading.Event) -> None:
    """Raise an error, which nobody sees, if nobody waits for a request any more."""
    if given_up.is_set():
        raise RefusedError(499, "the request was given up")


async def _hung_up(request: Request) -> None:
    """Wait until the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass

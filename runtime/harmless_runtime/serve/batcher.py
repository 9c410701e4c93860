"""Score what several requests ask for together, in the batches that `score` would plan."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count

import numpy as np
from numpy.typing import NDArray

from harmless_runtime.errors import HarmlessError
from harmless_runtime.model.engine import Engine
from harmless_runtime.model.tokenizer import Encoded

logger = logging.getLogger(__name__)

# Tokens of the requests that are scored together, as a multiple of the tokens of a batch: enough to
# sort rows by length, few enough that no request waits long for others.
_BATCHES = 4


class QueueFullError(Exception):
    """So many rows wait already that no more are accepted.

    Attributes:
        seconds: when to try again, by what was scored in the last seconds.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"too many rows wait; try again in {seconds:.0f} s")
        self.seconds = seconds


@dataclass(frozen=True, eq=False)
class Job:
    """The rows of one request.

    `future` gets their rewards, float32 [rows]; a job whose future is cancelled is not begun.
    """

    rows: Sequence[Encoded]
    future: Future[NDArray[np.float32]] = field(default_factory=Future)

    @property
    def tokens(self) -> int:
        """The tokens of its rows."""
        return sum(len(row.ids) for row in self.rows)


class Place:
    """How many rows a request has in the queue that are still to be tokenised.

    Args:
        number: number of the requests that came before.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.rows = 0
        self.is_left = False


@dataclass(frozen=True, order=True)
class _Held:
    """A request that is held until there is room for its rows. `room` is done then."""

    number: int
    place: Place = field(compare=False)
    rows: int = field(compare=False)
    room: Future[None] = field(default_factory=Future, compare=False)


class Batcher:
    """Scores rows in a thread. Requests that wait at the same time share batches.

    While the device is busy, requests wait for their turn together. If it is idle, the first one
    waits a little for others. Requests may be held until there is room for their rows: the one that
    came first has the next room, and nothing that came later is accepted before it.

    Args:
        engine: what scores.
        wait_seconds: how long the first request waits for others if the device is idle.
        most_waiting: the most rows that may wait, those that are tokenised included. A single
            request may have more.
        on_set: called with the number of rows and tokens, and with the seconds, of each set of
            requests that was scored together.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        wait_seconds: float,
        most_waiting: int,
        on_set: Callable[[int, int, float], None] = lambda *_: None,
    ) -> None:
        self._engine = engine
        self._wait_seconds = wait_seconds
        self._most_waiting = most_waiting
        self._most_tokens = _BATCHES * engine.limits.batch_tokens
        self._on_set = on_set
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._waiting_rows = 0
        self._numbers = count()
        # A heap, by number. Those that are given up stay in it until they come first.
        self._held: list[_Held] = []
        self._under_way: deque[tuple[list[Job], float]] = deque()
        self._is_closed = False
        # Why the last rows were not scored, if they were not.
        self.failure: str | None = None
        # Rows a second, of late.
        self._pace = 0.0
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    @property
    def waiting_rows(self) -> int:
        """The number of rows that wait, to be tokenised or to be scored."""
        return self._waiting_rows

    @property
    def is_full(self) -> bool:
        """Whether no more rows are accepted now."""
        return bool(self._held) or self._waiting_rows >= self._most_waiting

    @contextmanager
    def place(self) -> Iterator[Place]:
        """Give a place in the queue to a request whose rows are not tokenised yet.

        It has no rows, until `resize` or `held` says how many there are.
        """
        place = Place(next(self._numbers))
        try:
            yield place
        finally:
            with self._changed:
                place.is_left = True
                self._empty(place)

    def resize(self, place: Place, rows: int) -> None:
        """Say how many rows a place is for. One that is left stays as it is.

        Raises:
            QueueFullError: too many rows wait, or a request is held that came before.
        """
        with self._changed:
            if not place.is_left:
                self._count(rows, place)

    @contextmanager
    def held(self, place: Place, rows: int) -> Iterator[Future[None]]:
        """Hold a request until there is room for its rows. Its place has none until then.

        Args:
            place: its place.
            rows: how many rows it is for.

        Yields:
            What is done once there is room. If it is left before, the request is held no more.
        """
        held = _Held(place.number, place, rows)
        with self._changed:
            heappush(self._held, held)
            self._empty(place)
        try:
            yield held.room
        finally:
            held.room.cancel()
            with self._changed:
                self._let_in()

    def submit(self, rows: Sequence[Encoded], place: Place | None = None) -> Job:
        """Let rows be scored.

        Args:
            rows: their tokens.
            place: where they have waited to be tokenised. Nothing is in it then.

        Raises:
            QueueFullError: too many rows wait, or a request is held that came before.
        """
        job = Job(rows)
        place = place or Place(next(self._numbers))
        with self._changed:
            self._count(len(rows), place)
            place.rows = 0
            self._let_in()
            if not rows:
                job.future.set_result(np.zeros(0, np.float32))
                return job
            self._waiting.append(job)
            self._changed.notify()
        return job

    def _count(self, rows: int, place: Place) -> None:
        """Count a place's rows as waiting, unless other rows leave no room for them."""
        is_later = bool(self._held) and self._held[0].number < place.number
        is_too_much = rows > place.rows and (is_later or not self._has_room(rows, place))
        if self._is_closed or is_too_much:
            raise QueueFullError(self._waiting_rows / self._pace if self._pace else 1.0)
        self._waiting_rows += rows - place.rows
        place.rows = rows

    def _has_room(self, rows: int, place: Place) -> bool:
        others = self._waiting_rows - place.rows
        return not others or others + rows <= self._most_waiting

    def _empty(self, place: Place) -> None:
        self._waiting_rows -= place.rows
        place.rows = 0
        self._let_in()

    def _let_in(self) -> None:
        """Give room to the requests that are held, as far as there is some."""
        while self._held:
            first = self._held[0]
            if not first.room.cancelled() and not self._has_room(first.rows, first.place):
                return
            heappop(self._held)
            if first.room.set_running_or_notify_cancel():
                self._waiting_rows += first.rows
                first.place.rows = first.rows
                first.room.set_result(None)

    def cancel(self, job: Job) -> None:
        """Give up the place of a job that nobody waits for any more, unless it has begun."""
        if job.future.cancel():
            with self._changed:
                if job in self._waiting:
                    self._waiting.remove(job)
                    self._waiting_rows -= len(job.rows)
                    self._let_in()

    def close(self) -> None:
        """Score what waits, and end the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            try:
                for scores in self._engine.score_in_turn(self._more):
                    self._deliver(scores)
                return  # there is no more: it is closed
            except HarmlessError as error:
                logger.error("requests could not be scored: %s", error.with_hint)
                self._fail(error)
            except BaseException as error:
                logger.exception("requests could not be scored")
                self._fail(error)

    def _more(self, wait: bool) -> list[Encoded] | None:
        """Return the rows of jobs that are scored together, as `Engine.score_in_turn` asks."""
        jobs: list[Job] = []
        with self._changed:
            while not jobs:
                while wait and not self._waiting and not self._is_closed:
                    self._changed.wait()
                if wait:
                    self._await_others()
                jobs = self._taken()
                if not jobs and (not wait or self._is_closed):
                    return None
        self._under_way.append((jobs, time.monotonic()))
        return [row for job in jobs for row in job.rows]

    def _taken(self) -> list[Job]:
        """Take jobs from the queue that are scored together. Those that were cancelled are lost."""
        jobs: list[Job] = []
        tokens = 0
        while self._waiting and (not jobs or tokens + self._waiting[0].tokens <= self._most_tokens):
            job = self._waiting.popleft()
            self._waiting_rows -= len(job.rows)
            if job.future.set_running_or_notify_cancel():
                jobs.append(job)
                tokens += job.tokens
        self._let_in()
        return jobs

    def _await_others(self) -> None:
        until = time.monotonic() + self._wait_seconds
        while not self._is_closed and sum(j.tokens for j in self._waiting) < self._most_tokens:
            left = until - time.monotonic()
            if left <= 0 or not self._changed.wait(left):
                return

    def _deliver(self, scores: NDArray[np.float32]) -> None:
        self.failure = None
        jobs, began = self._under_way.popleft()
        seconds = time.monotonic() - began
        self._pace = 0.8 * self._pace + 0.2 * len(scores) / max(seconds, 1e-6)
        start = 0
        for job in jobs:
            job.future.set_result(scores[start : start + len(job.rows)])
            start += len(job.rows)
        self._on_set(len(scores), sum(job.tokens for job in jobs), seconds)

    def _fail(self, error: BaseException) -> None:
        self.failure = str(error) or type(error).__name__
        for jobs, _ in self._under_way:
            for job in jobs:
                job.future.set_exception(error)
        self._under_way.clear()

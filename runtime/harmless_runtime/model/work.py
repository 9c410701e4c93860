"""Run sets of rows one after another, and begin the next before the one before is done."""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from harmless_runtime.errors import OutOfMemoryError, SessionError
from harmless_runtime.model.batches import Batch, Limits, pad, plan_batches
from harmless_runtime.model.runner import Runner
from harmless_runtime.model.tokenizer import Encoded

logger = logging.getLogger(__name__)

# For each stream one batch runs and one waits, so that the device never waits.
_SUBMITTED = 2


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """A batch that was run: the indices of its rows, the number of ids, and of padding."""

    rows: list[int]
    tokens: int
    padding: int


class Work:
    """The batches of one set of rows: those that wait, those that run, and the scores so far.

    Rows with the same ids are computed once. If memory has no room for a batch, the batch is run in
    parts, and so are all later batches that are as large.

    Attributes:
        scores: float32, one for each row in the order given. Those of batches that were not taken
            yet are undefined.
    """

    def __init__(
        self, encoded: Sequence[Encoded], runner: Runner, limits: Limits, pad_token_id: int
    ) -> None:
        self._runner = runner
        self._limits = limits
        self._pad_token_id = pad_token_id
        rows_by_ids: dict[bytes, list[int]] = {}
        for i, row in enumerate(encoded):
            rows_by_ids.setdefault(row.ids.tobytes(), []).append(i)
        self._groups = list(rows_by_ids.values())
        self._ids = [encoded[group[0]].ids for group in self._groups]
        self.encoded = encoded
        self.scores = np.empty(len(encoded), np.float32)
        self._todo = deque(plan_batches(list(map(len, self._ids)), limits))
        self._submitted: deque[tuple[Batch, Future[NDArray[np.float32]]]] = deque()

    @property
    def waiting(self) -> bool:
        """Whether there are batches that were not submitted yet."""
        return bool(self._todo)

    @property
    def submitted(self) -> int:
        """The number of batches whose rewards were not taken yet."""
        return len(self._submitted)

    @property
    def is_done(self) -> bool:
        """Whether the scores are complete."""
        return not (self._todo or self._submitted)

    def submit(self) -> None:
        """Submit the next batch that waits."""
        batch = self._todo.popleft()
        while len(batch.rows) > 1 and batch.tokens > self._runner.capacity:
            batch, *others = self._parts(batch)
            self._todo.extendleft(reversed(others))
        self._submitted.append((batch, self._runner.submit(self._padded(batch))))

    def take(self) -> ScoredBatch | None:
        """Wait for the batch that was submitted first.

        Returns:
            The batch, or None if memory has no room for it. Its parts then wait again.

        Raises:
            SessionError: ONNX Runtime failed, or memory has no room even for a single row.
        """
        batch, future = self._submitted.popleft()
        try:
            rewards = future.result()
        except OutOfMemoryError as error:
            if len(batch.rows) > 1:
                logger.warning(
                    "memory has no room for a batch of %d rows × %d tokens: later batches "
                    "have at most %d tokens",
                    *batch.shape,
                    self._runner.capacity,
                )
                self._todo.extendleft(reversed(self._parts(batch)))
                return None
            rewards = self._alone(batch, error)
        rows = []
        for i, reward in zip(batch.rows, rewards, strict=False):
            self.scores[self._groups[i]] = reward
            rows += self._groups[i]
        real = sum(len(self._ids[i]) for i in batch.rows)
        return ScoredBatch(rows, batch.tokens, batch.tokens - real)

    def _alone(self, batch: Batch, error: OutOfMemoryError) -> NDArray[np.float32]:
        """Run a batch of one row again, after the other batches of this set are done.

        Raises:
            SessionError: memory has no room for it even then.
        """
        try:
            wait([other for _, other in self._submitted])
            return self._runner.submit(self._padded(batch)).result()
        except OutOfMemoryError:
            raise SessionError(
                f"memory has no room for a single row of {batch.shape[1]} tokens",
                "lower `max_length` or `streams`; on a GPU, raise `gpu_memory` if it is set",
            ) from error

    def _padded(self, batch: Batch) -> NDArray[np.int64]:
        return pad([self._ids[i] for i in batch.rows], self._pad_token_id, batch.shape)

    def cancel(self) -> None:
        """End the batches that were submitted."""
        for _, future in self._submitted:
            self._runner.cancel(future)

    def _parts(self, batch: Batch) -> list[Batch]:
        """Cut a batch into batches for which the runner has room, or into single rows."""
        limits = replace(self._limits, batch_tokens=max(self._runner.capacity, 1))
        parts = plan_batches([len(self._ids[i]) for i in batch.rows], limits)
        return [replace(part, rows=batch.rows[part.rows]) for part in parts]


def run_in_turn(
    more: Callable[[bool], Work | None], on_batch: Callable[[ScoredBatch], None], runner: Runner
) -> Iterator[Work]:
    """Yield sets of rows in their order, each when it is done.

    While the last batches of a set run, the first batches of the next are submitted, so that the
    device does not wait in between.

    Args:
        more: returns the next set of rows, or None if there are no more. It is called with whether
            to wait for a set that is still to come. If not, None may also mean that it is not
            there yet.
        on_batch: called after each batch of the set that is yielded next.
        runner: what runs all batches.

    Raises:
        SessionError: as `Work.take`.
    """
    most = _SUBMITTED * runner.target.streams
    under_way: deque[Work] = deque()
    try:
        while True:
            while sum(work.submitted for work in under_way) < most:
                waiting = next((work for work in under_way if work.waiting), None)
                if waiting is not None:
                    waiting.submit()
                    continue
                if under_way and under_way[0].is_done:
                    break
                new = more(not under_way)
                if new is None:
                    break
                under_way.append(new)
            if not under_way:
                return
            if under_way[0].submitted:
                batch = under_way[0].take()
                if batch is not None:
                    on_batch(batch)
            if under_way[0].is_done:
                yield under_way.popleft()
    finally:
        for work in under_way:
            work.cancel()

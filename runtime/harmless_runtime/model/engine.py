"""Score rows of token ids: cut them into batches, run these, and put the rewards in order."""

import hashlib
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from harmless_runtime.errors import OutOfMemoryError, SessionError
from harmless_runtime.model.artifact import Artifact
from harmless_runtime.model.batches import Batch, Limits, pad, plan_batches
from harmless_runtime.model.runner import Runner
from harmless_runtime.model.tokenizer import Encoded, PairTokenizer

logger = logging.getLogger(__name__)

# One batch runs and one waits, so that the device never waits.
_SUBMITTED = 2


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """A batch that was run: the indices of its rows, the number of ids, and of padding."""

    rows: list[int]
    tokens: int
    padding: int


@dataclass(frozen=True)
class Engine:
    """Everything that scores: an artifact, its tokenizer, a runner, and the limits of a batch.

    `fp32_fallback` returns an engine of the same checkpoint in fp32, or None if there is none. It
    scores the rows that have no finite score in this engine's precision.
    """

    artifact: Artifact
    tokenizer: PairTokenizer
    runner: Runner
    limits: Limits
    fp32_fallback: Callable[[], "Engine | None"] | None = None

    @property
    def fingerprint(self) -> dict[str, Any]:
        """The model and the settings that change results, by names that a person understands."""
        manifest, limits = self.artifact.manifest, self.limits
        content = msgspec.json.encode(manifest.unmeasured)
        return {
            "the artifact's SHA-256": hashlib.sha256(content).hexdigest(),
            "precision": manifest.precision,
            "provider": self.runner.provider,
            "max_length": self.tokenizer.max_length,
            "the batches' limits": [limits.batch_tokens, limits.batch_cost, limits.length_multiple],
            "the attention kernels": self.runner.attention,
            "the windows' limits": [limits.window_tokens, limits.window_rows, limits.window_bytes],
            "fp32 for rows that overflow": self.fp32_fallback is not None,
        }

    def score(
        self,
        encoded: Sequence[Encoded],
        on_batch: Callable[[ScoredBatch], None] = lambda _: None,
    ) -> NDArray[np.float32]:
        """Score rows of token ids. Rows with the same ids are computed once.

        Args:
            encoded: the rows, in any order.
            on_batch: called after each batch.

        Returns:
            float32 [len(encoded)], in the order given. A score is not finite if the model
            overflows, and in fp32 too if there is a fallback.

        Raises:
            SessionError: ONNX Runtime failed, or memory has no room even for a single row.
        """
        scores = np.empty(len(encoded), np.float32)
        rows_by_ids: dict[bytes, list[int]] = {}
        for i, row in enumerate(encoded):
            rows_by_ids.setdefault(row.ids.tobytes(), []).append(i)
        groups = list(rows_by_ids.values())
        distinct = [encoded[group[0]].ids for group in groups]
        for batch, rewards in self._run(distinct):
            rows = []
            for i, reward in zip(batch.rows, rewards, strict=False):
                scores[groups[i]] = reward
                rows += groups[i]
            real = sum(len(distinct[i]) for i in batch.rows)
            on_batch(ScoredBatch(rows, batch.tokens, batch.tokens - real))
        overflowed = np.flatnonzero(~np.isfinite(scores)).tolist()
        if overflowed and self.fp32_fallback is not None:
            logger.warning(
                "scoring %d rows in fp32, because they have no finite score in %s",
                len(overflowed),
                self.artifact.manifest.precision,
            )
            fallback = self.fp32_fallback()
            if fallback is not None:
                scores[overflowed] = fallback.score([encoded[i] for i in overflowed])
        return scores

    def why_no_score(self, score: float) -> str:
        """Return the reason for the reject of a row whose score is not finite."""
        precision = self.artifact.manifest.precision
        if precision == "fp32":
            return f"the score in fp32 is {score}"
        if self.fp32_fallback is not None:
            return f"the score is {score}: neither {precision} nor the fp32 fallback gave a number"
        return f"the score in {precision} is {score}; an export in fp32 can score such rows"

    def _run(
        self, rows: Sequence[NDArray[np.int32]]
    ) -> Iterator[tuple[Batch, NDArray[np.float32]]]:
        """Yield batches with their rewards, until every row was in one.

        If memory has no room for a batch, the batch is run in parts, and so are all later batches
        that are as large.
        """
        todo = deque(plan_batches(list(map(len, rows)), self.limits))
        submitted: deque[tuple[Batch, Future[NDArray[np.float32]]]] = deque()
        try:
            while todo or submitted:
                while todo and len(submitted) < _SUBMITTED:
                    batch = todo.popleft()
                    if len(batch.rows) > 1 and batch.tokens > self.runner.capacity:
                        todo.extendleft(reversed(self._parts(batch, rows)))
                        continue
                    own = [rows[i] for i in batch.rows]
                    ids = pad(own, self.artifact.manifest.pad_token_id, batch.shape)
                    submitted.append((batch, self.runner.submit(ids)))
                batch, rewards = submitted.popleft()
                try:
                    yield batch, rewards.result()
                except OutOfMemoryError as error:
                    if len(batch.rows) == 1:
                        raise SessionError(
                            f"memory has no room for a single row of {batch.shape[1]} tokens",
                            "lower `max_length`; on a GPU, raise `gpu_memory` if it is set",
                        ) from error
                    logger.warning(
                        "memory has no room for a batch of %d rows × %d tokens: later batches "
                        "have at most %d tokens",
                        *batch.shape,
                        self.runner.capacity,
                    )
                    todo.extendleft(reversed(self._parts(batch, rows)))
        finally:
            for _, rewards in submitted:
                rewards.cancel()

    def _parts(self, batch: Batch, rows: Sequence[NDArray[np.int32]]) -> list[Batch]:
        """Cut a batch into batches for which the runner has room, or into single rows."""
        limits = replace(self.limits, batch_tokens=max(self.runner.capacity, 1))
        parts = plan_batches([len(rows[i]) for i in batch.rows], limits)
        return [replace(part, rows=batch.rows[part.rows]) for part in parts]

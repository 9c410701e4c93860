"""Score few rows on a GPU by CUDA graphs, which launch all kernels of a batch at once.

The host needs about as long to launch the kernels of GPT-2-large one by one as a GPU needs for a
thousand tokens (by estimate). A graph belongs to one shape, so few shapes are used.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from harmless_runtime.errors import HarmlessError, SessionError
from harmless_runtime.model.artifact import Artifact
from harmless_runtime.model.batches import Limits
from harmless_runtime.model.runner import Runner, ShapeTimes
from harmless_runtime.model.tokenizer import Encoded

logger = logging.getLogger(__name__)

# Rows with more tokens together gain little, by estimate.
MOST_TOKENS = 1024
# The shortest length of a shape. Longer ones are its doubles.
_SHORTEST = 128


class GraphRunner:
    """Runs batches by CUDA graphs, in a session of its own, and by another runner if that fails.

    The session is loaded for the first batch, so its weights are in the GPU's memory only if they
    are needed. A graph is captured with the first batch of its shape.

    Args:
        load: loads the session, with CUDA graphs.
        runner: what runs batches otherwise.
        artifact: the opened artifact.
        max_length: most tokens of a row.
    """

    def __init__(
        self, load: Callable[[], Runner], runner: Runner, artifact: Artifact, max_length: int
    ) -> None:
        self.target = runner.target
        self.attention = runner.attention
        self.times = ShapeTimes()
        self.works = True
        self._lock = threading.Lock()
        self._load = load
        self._own: Runner | None = None
        self._runner = runner
        self._manifest = artifact.manifest
        self._max_length = max_length

    @property
    def capacity(self) -> int:
        """The most ids of a batch, which the other runner has room for as well."""
        return min(MOST_TOKENS, self._runner.capacity)

    def suits(self, encoded: Sequence[Encoded]) -> bool:
        """Return whether rows are few enough, and graphs have not failed."""
        return self.works and sum(len(row.ids) for row in encoded) <= MOST_TOKENS

    def limits(self, limits: Limits) -> Limits:
        """Return the limits for batches of few rows, made of those for many."""
        tokens = min(MOST_TOKENS, limits.batch_tokens)
        return replace(limits, batch_tokens=tokens, length_multiple=_SHORTEST)

    def submit(self, ids: NDArray[np.int64]) -> Future[NDArray[np.float32]]:
        """Run a batch, as `Runner.submit` describes it, before this returns."""
        with self._lock:
            if self.works:
                try:
                    done: Future[NDArray[np.float32]] = Future()
                    done.set_result(self._replay(ids))
                    return done
                except HarmlessError as error:
                    logger.warning("few rows are scored without CUDA graphs: %s", error.with_hint)
                    self.works, self._own = False, None
        return self._runner.submit(ids)

    def cancel(self, future: Future[NDArray[np.float32]]) -> None:
        """End a batch, as `Runner.cancel` describes it."""
        self._runner.cancel(future)

    def _replay(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        if self._own is None:
            own = self._load()
            self._try(own)
            self._own = own
        return self._own.submit(self._padded(ids)).result()[: len(ids)]

    def _padded(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Add padding, so that few shapes occur."""
        rows, length = ids.shape
        longer = max(_SHORTEST, 1 << (length - 1).bit_length())
        shape = 1 << (rows - 1).bit_length(), min(longer, self._max_length)
        padded = np.full(shape, self._manifest.pad_token_id, np.int64)
        padded[:rows, :length] = ids
        return padded

    def _try(self, own: Runner) -> None:
        """Compare some rows with the other runner.

        Raises:
            SessionError: a score differs by more than rounding.
        """
        reference = self._manifest.reference
        longest = min(self._max_length, MOST_TOKENS // 2)
        ids = np.array(reference.ids if reference else [0] * 64, np.int64)[:longest]
        tolerance = 2 * reference.tolerance if reference else 0.05
        # A replay has to read its ids anew, so two batches of the same shape are compared.
        for row in (ids, ids[: len(ids) // 2 + 1]):
            batch = row[None]
            by_graph = own.submit(self._padded(batch)).result()[:1]
            expected = self._runner.submit(batch).result()
            if not np.allclose(by_graph, expected, rtol=0, atol=tolerance):
                raise SessionError(
                    f"a CUDA graph scores a row with {by_graph[0]:.4g}, and a run without one "
                    f"with {expected[0]:.4g}"
                )

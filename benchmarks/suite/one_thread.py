"""Run batches one after the other in a thread, by any function."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from harmless_runtime.model.runner import ShapeTimes
from harmless_runtime.model.target import Target

Ids = NDArray[np.int64]
Logits = NDArray[np.float32]


class OneThreadRunner:
    """A runner of an engine.

    Args:
        run: returns the logits of a batch, float32 [rows], of its ids, int64 [rows, tokens].
        target: where it runs.
        capacity: most tokens of a batch.
        attention: the name of the attention's kernel.
    """

    def __init__(
        self, run: Callable[[Ids], Logits], target: Target, capacity: int, attention: str = ""
    ) -> None:
        self.target = target
        self.capacity = capacity
        self.attention = attention
        self.times = ShapeTimes()
        self._run = run
        self._thread = ThreadPoolExecutor(1)

    def submit(self, ids: Ids) -> Future[Logits]:
        """Run a batch after those submitted before."""
        return self._thread.submit(self._timed, ids)

    def cancel(self, future: Future[Logits]) -> None:
        """Do not run a batch that has not begun."""
        future.cancel()

    def _timed(self, ids: Ids) -> Logits:
        start = time.perf_counter()
        logits = self._run(ids)
        self.times.add(ids.shape, time.perf_counter() - start)
        return logits

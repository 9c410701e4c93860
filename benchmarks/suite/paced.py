"""Simulate a device of a given speed, by pauses. Everything around it is real."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harmless_runtime.config import ScorerConfig
from harmless_runtime.model.artifact import open_artifact
from harmless_runtime.model.batches import plan_limits
from harmless_runtime.model.engine import Engine
from harmless_runtime.model.runner import ShapeTimes
from harmless_runtime.model.target import Target
from harmless_runtime.model.tokenizer import PairTokenizer

# Window sizes are derived from it. These are the real checkpoint's.
PARAMETERS = 774_000_000


class PacedRunner:
    """Takes as long for a batch as a device of the given pace, in tokens per second."""

    target = Target("cuda")
    attention = ""

    def __init__(self, pace: float, capacity: int) -> None:
        self.capacity = capacity
        self.times = ShapeTimes()
        self._pace = pace
        self._thread = ThreadPoolExecutor(1)

    def submit(self, ids: NDArray[np.int64]) -> Future[NDArray[np.float32]]:
        """Wait, and return zeros."""
        return self._thread.submit(self._run, ids)

    def cancel(self, future: Future[NDArray[np.float32]]) -> None:
        """Do not run a batch that has not begun."""
        future.cancel()

    def _run(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        time.sleep(ids.size / self._pace)
        self.times.add(ids.shape, ids.size / self._pace)
        return np.zeros(len(ids), np.float32)


def paced_engine(artifact: Path, pace: float, max_length: int) -> Engine:
    """Return an engine that reads, tokenises and batches as on CUDA, and runs nothing.

    Args:
        artifact: whose tokenizer is used.
        pace: tokens per second.
        max_length: most tokens of a row.
    """
    limits = plan_limits("cuda", PARAMETERS, 8, max_length)
    opened = open_artifact(artifact)
    runner = PacedRunner(pace, limits.batch_tokens)
    return Engine(opened, PairTokenizer(opened.tokenizer, max_length), runner, limits)


def load_paced(artifact: Path, pace: float, config: ScorerConfig) -> Engine:
    """Load the engine of a worker of Ray, as `harmless_runtime.cluster.worker` asks for it."""
    return paced_engine(artifact, pace, config.max_length or 1024)

"""Define what an engine needs from the runner of its batches, and measure how long runs take."""

import math
import threading
from concurrent.futures import Future
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from harmless_runtime.model.target import Target


class ShapeTimes:
    """How long runs took, by the shape of their batch.

    The first two runs of each shape are kept apart, because they may build plans for it: cuDNN's
    attention builds its plans in a shape's first run, and some again in the second.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Forget all runs."""
        self._early: dict[tuple[int, ...], list[float]] = {}
        self._later_seconds = 0.0
        self._later_tokens = 0

    def add(self, shape: tuple[int, ...], seconds: float) -> None:
        """Count one run of a batch of shape [batch_size, sequence_length]. Any thread may do so."""
        with self._lock:
            early = self._early.setdefault(shape, [])
            if len(early) < 2:
                early.append(seconds)
            else:
                self._later_seconds += seconds
                self._later_tokens += math.prod(shape)

    @property
    def shapes(self) -> int:
        """The number of different shapes that were run."""
        return len(self._early)

    @property
    def planning_seconds(self) -> float:
        """The extra seconds of the early runs, compared with the average pace of later runs.

        On a GPU this is the time spent on planning kernels. It is 0 if there are no later runs.
        """
        if not self._later_tokens:
            return 0.0
        pace = self._later_seconds / self._later_tokens
        return sum(
            max(0.0, seconds - pace * math.prod(shape))
            for shape, early in self._early.items()
            for seconds in early
        )


class Runner(Protocol):
    """Turns batches of token ids into rewards. `Session` does so with ONNX Runtime.

    Attributes:
        target: where the batches run, and how many of them at once.
        attention: the attention kernels that may run, as the provider option `sdpa_kernel` numbers
            them. Empty if ONNX Runtime chooses. They decide the last bits of a score.
        times: how long the runs took.
    """

    target: Target
    attention: str
    times: ShapeTimes

    @property
    def capacity(self) -> int:
        """The most ids of a batch, padding included. It falls when memory runs out."""
        ...

    def submit(self, ids: NDArray[np.int64]) -> Future[NDArray[np.float32]]:
        """Run a batch. It begins after those submitted before.

        Args:
            ids: int64 [batch_size, sequence_length], padded on the right, at most `capacity` ids.

        Returns:
            The rewards, float32 [batch_size], once they are there. The future raises
            OutOfMemoryError if memory has no room for the batch: `capacity` is then at most half
            the batch, which can be run in parts. It raises SessionError for any other failure.
        """
        ...

    def cancel(self, future: Future[NDArray[np.float32]]) -> None:
        """End a batch that nobody waits for any more, if it can be ended."""
        ...

"""Runners whose results a test decides, in place of a session."""

from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray

from harmless_runtime.errors import OutOfMemoryError
from harmless_runtime.model.session import Session

Ids = NDArray[np.int64]
Rewards = NDArray[np.float32]


class ChangedRunner:
    """Runs a session, and lets `change` replace the rewards of each batch, or raise an error."""

    def __init__(self, session: Session, change: Callable[[Ids, Rewards], Rewards]) -> None:
        self.target = session.target
        self.attention = session.attention
        self.capacity = session.capacity
        self.times = session.times
        self._session = session
        self._change = change

    def submit(self, ids: Ids) -> Future[Rewards]:
        future: Future[Rewards] = Future()
        try:
            future.set_result(self._change(ids, self._session.submit(ids).result()))
        except Exception as error:
            future.set_exception(error)
        return future

    def cancel(self, future: Future[Rewards]) -> None:
        future.cancel()


class CrampedRunner(ChangedRunner):
    """Runs out of memory with batches of more than `room` ids."""

    def __init__(self, session: Session, room: int) -> None:
        super().__init__(session, lambda _, rewards: rewards)
        self._room = room

    def submit(self, ids: Ids) -> Future[Rewards]:
        if ids.size <= self._room:
            return super().submit(ids)
        self.capacity = min(self.capacity, ids.size // 2)
        future: Future[Rewards] = Future()
        future.set_exception(OutOfMemoryError(f"no room for {ids.shape}"))
        return future

"""Hold requests for which the queue has no room, in the order in which they came."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from harmless_runtime.serve.batcher import Batcher, Place, QueueFullError

# The most bytes of the requests that are held, each of which takes about so many for its connection
# and its tasks.
_MOST_BYTES, _REQUEST_BYTES = 2**28, 2**15


@dataclass(frozen=True)
class Stay:
    """How a request may be held.

    Attributes:
        body_bytes: the size of its body, which is in memory together with the texts in it.
        until: until when, by the clock of the event loop.
        limit: what ends the request. It does not run while the request is held.
    """

    body_bytes: int
    until: float
    limit: asyncio.Timeout

    @property
    def size(self) -> int:
        """The bytes that it takes."""
        return 2 * self.body_bytes + _REQUEST_BYTES


class Entrance:
    """Lets requests into the queue, or holds them before it.

    Args:
        batcher: has the queue.

    Attributes:
        requests: number of requests that are held.
    """

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher
        self._bytes = 0
        self.requests = 0

    def approach(self, place: Place, stay: Stay) -> None:
        """Let a request be read. It counts as one row, or as none if it may be held.

        Raises:
            QueueFullError: there is no room for a row, and the request may not be held.
        """
        try:
            self._batcher.resize(place, 1)
        except QueueFullError:
            if not self._may_hold(stay):
                raise

    async def enter(self, place: Place, rows: int, stay: Stay) -> None:
        """Return once a place has room for all rows of its request.

        Raises:
            QueueFullError: it has none, and the request may not be held, or no longer.
        """
        try:
            self._batcher.resize(place, rows)
        except QueueFullError:
            if not self._may_hold(stay):
                raise
        else:
            return
        now = asyncio.get_running_loop().time
        began, end = now(), stay.limit.when()
        stay.limit.reschedule(None)
        self.requests += 1
        self._bytes += stay.size
        try:
            with suppress(TimeoutError), self._batcher.held(place, rows) as room:
                async with asyncio.timeout_at(stay.until):
                    await asyncio.wrap_future(room)
        finally:
            self.requests -= 1
            self._bytes -= stay.size
            stay.limit.reschedule(end and end + now() - began)
        self._batcher.resize(place, rows)  # which it is already, or the request is refused

    def _may_hold(self, stay: Stay) -> bool:
        has_time = asyncio.get_running_loop().time() < stay.until
        return has_time and self._bytes + stay.size <= _MOST_BYTES

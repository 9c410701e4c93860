"""Make the next window in a thread while this one is scored."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Self

from harmless_runtime.model.batches import Limits
from harmless_runtime.model.tokenizer import PairTokenizer
from harmless_runtime.rows.records import Pair, Reject
from harmless_runtime.windows import Window, read_windows


class _Abandoned(BaseException):
    """Ends the reading thread when nobody takes its windows any more."""


class ReadAhead:
    """Yield the windows of `read_windows`, and make the next window in a thread meanwhile.

    The arguments are those of `read_windows`. An error in the thread is raised by the next `take`
    that waits, so that the windows before it can be written first.

    The end of the `with` block waits for the thread, because the interpreter aborts if it exits
    while a thread is in the tokenizer. It does not wait for a thread that is reading a row: a read
    from a terminal may take for ever, and must not keep an interrupted process alive. So the thread
    is a daemon.
    """

    def __init__(
        self,
        pairs: Iterable[Pair | Reject],
        tokenizer: PairTokenizer,
        limits: Limits,
        position: Callable[[], int] = lambda: 0,
        start: int = 0,
        place_in_piece: Callable[[], int] | None = None,
    ) -> None:
        self._pairs = pairs
        self._arguments = tokenizer, limits, position, start, place_in_piece
        # Each item is a window, the thread's error, or None at the end.
        self._ahead: queue.Queue[Window | BaseException | None] = queue.Queue(1)
        self._abandoned = threading.Event()
        self._waiting_for_row = threading.Event()
        # The last item that was taken, if no window comes after it.
        self._end: tuple[BaseException | None] | None = None
        self._thread = threading.Thread(target=self._produce, name="reader", daemon=True)

    def __enter__(self) -> Self:
        return self

    def __iter__(self) -> Iterator[Window]:
        return iter(self.take, None)

    def take(self, wait: bool = True) -> Window | None:
        """Return the next window, or None after the last one.

        Args:
            wait: if False, return None also if the next window is not there yet.

        Raises:
            Any error of reading or tokenising, but only if `wait` is set.
        """
        # Not in `__enter__`: an interrupt there would leave a thread that no `__exit__` ends.
        if not self._thread.ident:
            self._thread.start()
        if self._end is None:
            try:
                item = self._ahead.get(block=wait)
            except queue.Empty:
                return None
            if isinstance(item, Window):
                return item
            self._end = (item,)
        (error,) = self._end
        if error is not None and wait:
            raise error
        return None

    def __exit__(self, *_: object) -> None:
        self._abandoned.set()
        while self._thread.is_alive() and not self._waiting_for_row.is_set():
            self._thread.join(0.02)

    def _produce(self) -> None:
        try:
            for window in read_windows(self._rows(), *self._arguments):
                self._put(window)
            self._put(None)
        except _Abandoned:
            pass
        except BaseException as error:  # whatever it is, it is raised in the other thread
            with suppress(_Abandoned):
                self._put(error)

    def _rows(self) -> Iterator[Pair | Reject]:
        iterator = iter(self._pairs)
        while True:
            self._waiting_for_row.set()
            pair = next(iterator, None)
            self._waiting_for_row.clear()
            if self._abandoned.is_set():
                raise _Abandoned
            if pair is None:
                return
            yield pair

    def _put(self, item: Window | BaseException | None) -> None:
        while not self._abandoned.is_set():
            try:
                return self._ahead.put(item, timeout=0.1)
            except queue.Full:
                continue
        raise _Abandoned

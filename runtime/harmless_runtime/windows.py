"""Cut the rows of the inputs into windows: tokenised, and read ahead in a thread."""

import itertools
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from harmless_runtime.model.batches import Limits
from harmless_runtime.model.tokenizer import UNBROKEN, Encoded, PairTokenizer
from harmless_runtime.rows.records import Pair, Reject

# Rows tokenised at a time: enough to keep every core busy, few enough to need little memory.
_CHUNK_ROWS = 512
_CHUNK_BYTES = 4 * 2**20
# Rows of the first window of a piece. Each later one may have as many as came before it.
_FIRST_ROWS = 512


@dataclass(frozen=True, slots=True)
class Row:
    """A row that can be scored, and its token ids."""

    pair: Pair
    encoded: Encoded


@dataclass(frozen=True, slots=True)
class Refused:
    """A row whose texts were read, but that gets no score, and the reason."""

    pair: Pair
    reason: str

    @property
    def reject(self) -> Reject:
        """The row as a reject. Its texts take the place of what was read."""
        texts = (self.pair.question + self.pair.answer).encode()
        return Reject(self.pair.source, self.pair.number, self.reason, texts)


@dataclass(frozen=True, slots=True)
class Window:
    """Rows that are scored and written together, in input order.

    `input_bytes` is how many bytes of the inputs were read for them, as they are stored: the input
    is read in large pieces, so it is exact only at the end of the inputs.
    """

    items: list[Row | Refused | Reject]
    input_bytes: int = 0

    @property
    def rows(self) -> list[Row]:
        """The rows that can be scored."""
        return [item for item in self.items if isinstance(item, Row)]

    @property
    def rejects(self) -> list[Reject]:
        """The rows that cannot be scored."""
        return [
            item.reject if isinstance(item, Refused) else item
            for item in self.items
            if not isinstance(item, Row)
        ]


def read_windows(
    pairs: Iterable[Pair | Reject],
    tokenizer: PairTokenizer,
    limits: Limits,
    position: Callable[[], int] = lambda: 0,
    start: int = 0,
    place_in_piece: Callable[[], int] | None = None,
) -> Iterator[Window]:
    """Tokenise rows, and cut them into windows.

    The first windows of a piece are small, so that scoring begins soon, and grow with their place
    in it. The end of a window depends only on the rows since its start, on its place and on the
    limits. So a run that is resumed at the start of a window cuts the same windows as an
    uninterrupted run, and a piece is cut alike alone and in a run of several.

    Args:
        pairs: the rows.
        tokenizer: what tokenises them.
        limits: the limits of a window.
        position: gives the number of bytes of the inputs that were read so far.
        start: the bytes that count for rows before these.
        place_in_piece: called for each row, returns the number of rows of its piece before it. A
            window has to begin with the first row of a piece. By default all rows are one piece.
    """
    place_in_piece = place_in_piece or itertools.count().__next__
    items: list[Row | Refused | Reject] = []
    tokens = size = 0
    most = 0  # rows of this window
    counted = start  # bytes, up to the last cut
    done = told = float(start)
    for chunk in _chunks(pairs):
        # The rows of a chunk share the bytes that were read for it.
        told, before = max(told, position()), told
        share = (told - before) / len(chunk)
        for item, item_size in _tokenise(chunk, tokenizer):
            item_tokens = len(item.encoded.ids) if isinstance(item, Row) else 0
            place = place_in_piece()
            if items and (
                place == 0
                or len(items) >= most
                or tokens + item_tokens > limits.window_tokens
                or size + item_size > limits.window_bytes
            ):
                yield Window(items, round(done) - counted)
                items, tokens, size, counted = [], 0, 0, round(done)
            if not items:
                most = min(limits.window_rows, max(_FIRST_ROWS, place))
            tokens += item_tokens
            size += item_size
            done += share
            items.append(item)
    if items:
        yield Window(items, round(done) - counted)


def _chunks(pairs: Iterable[Pair | Reject]) -> Iterator[list[tuple[Pair | Reject, int]]]:
    """Yield rows with their sizes, as many at a time as are tokenised at a time."""
    chunk: list[tuple[Pair | Reject, int]] = []
    size = 0
    left = iter(pairs)
    while True:
        try:
            pair = next(left, None)
        except Exception:
            # The rows before the error are scored and written first.
            if chunk:
                yield chunk
            raise
        if pair is None:
            break
        chunk.append((pair, pair.size))
        size += pair.size
        if len(chunk) >= _CHUNK_ROWS or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _tokenise(
    chunk: list[tuple[Pair | Reject, int]], tokenizer: PairTokenizer
) -> Iterator[tuple[Row | Refused | Reject, int]]:
    texts = [(item.question, item.answer) for item, _ in chunk if isinstance(item, Pair)]
    encoded = iter(tokenizer.encode_each(texts))
    for item, size in chunk:
        if isinstance(item, Reject):
            yield item, size
        elif (tokens := next(encoded)) is None:
            yield Refused(item, UNBROKEN), size
        else:
            yield Row(item, tokens), size


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

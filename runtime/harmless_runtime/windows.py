"""Cut the lines of the input into windows: parsed, tokenised, and read ahead in a thread."""

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from harmless_runtime.model.batches import Limits
from harmless_runtime.model.tokenizer import Encoded, PairTokenizer
from harmless_runtime.rows.prompt import question_and_answer
from harmless_runtime.rows.records import Record, Reject, parse_line
from harmless_runtime.rows.sources import Line

# Rows tokenised at a time: enough to keep every core busy, few enough to need little memory.
_CHUNK_ROWS = 512
_CHUNK_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Row:
    """A line that can be scored: its id as JSON text, and its token ids."""

    line: Line
    id: bytes
    encoded: Encoded


@dataclass(frozen=True, slots=True)
class Window:
    """Lines that are scored and written together, in input order."""

    items: list[Row | Reject]

    @property
    def rows(self) -> list[Row]:
        """The lines that can be scored."""
        return [item for item in self.items if isinstance(item, Row)]

    @property
    def rejects(self) -> list[Reject]:
        """The lines that cannot be scored."""
        return [item for item in self.items if isinstance(item, Reject)]


def read_windows(
    lines: Iterable[Line], tokenizer: PairTokenizer, limits: Limits
) -> Iterator[Window]:
    """Parse and tokenise lines, and cut them into windows.

    The end of a window depends only on the lines since its start and on the limits. So a run that
    is resumed at the start of a window cuts the same windows as an uninterrupted run.
    """
    items: list[Row | Reject] = []
    tokens = size = 0
    for item in _tokenise(lines, tokenizer):
        item_tokens = len(item.encoded.ids) if isinstance(item, Row) else 0
        if items and (
            len(items) >= limits.window_rows
            or tokens + item_tokens > limits.window_tokens
            or size + len(item.line.raw) > limits.window_bytes
        ):
            yield Window(items)
            items, tokens, size = [], 0, 0
        tokens += item_tokens
        size += len(item.line.raw)
        items.append(item)
    if items:
        yield Window(items)


def _tokenise(lines: Iterable[Line], tokenizer: PairTokenizer) -> Iterator[Row | Reject]:
    chunk: list[tuple[Line, Record | Reject]] = []
    size = 0
    for line in lines:
        chunk.append((line, parse_line(line)))
        size += len(line.raw)
        if len(chunk) >= _CHUNK_ROWS or size >= _CHUNK_BYTES:
            yield from _tokenise_chunk(chunk, tokenizer)
            chunk, size = [], 0
    yield from _tokenise_chunk(chunk, tokenizer)


def _tokenise_chunk(
    chunk: list[tuple[Line, Record | Reject]], tokenizer: PairTokenizer
) -> Iterator[Row | Reject]:
    pairs = [
        question_and_answer(record.instruction, record.input or "", record.output)
        for _, record in chunk
        if isinstance(record, Record)
    ]
    encoded = iter(tokenizer.encode(pairs))
    for line, record in chunk:
        if isinstance(record, Record):
            yield Row(line, bytes(record.id), next(encoded))
        else:
            yield record


class _Abandoned(BaseException):
    """Ends the reading thread when nobody takes its windows any more."""


class ReadAhead:
    """Yield the windows of `read_windows`, and make the next window in a thread meanwhile.

    An error in the thread is raised when the next window is taken.

    The end of the `with` block waits for the thread, because the interpreter aborts if it exits
    while a thread is in the tokenizer. It does not wait for a thread that is reading a line: a read
    from a terminal may take for ever, and must not keep an interrupted process alive. So the thread
    is a daemon.
    """

    def __init__(self, lines: Iterable[Line], tokenizer: PairTokenizer, limits: Limits) -> None:
        self._source = lines
        self._tokenizer = tokenizer
        self._limits = limits
        # Each item is a window, the thread's error, or None at the end.
        self._ahead: queue.Queue[Window | BaseException | None] = queue.Queue(1)
        self._abandoned = threading.Event()
        self._waiting_for_line = threading.Event()
        self._thread = threading.Thread(target=self._produce, name="reader", daemon=True)

    def __enter__(self) -> Self:
        try:
            self._thread.start()
        except BaseException:  # an interrupt just after the start
            self._abandoned.set()
            raise
        return self

    def __iter__(self) -> Iterator[Window]:
        while (item := self._ahead.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def __exit__(self, *_: object) -> None:
        self._abandoned.set()
        while self._thread.is_alive() and not self._waiting_for_line.is_set():
            self._thread.join(0.02)

    def _produce(self) -> None:
        try:
            for window in read_windows(self._lines(), self._tokenizer, self._limits):
                self._put(window)
            self._put(None)
        except _Abandoned:
            pass
        except BaseException as error:  # whatever it is, it is raised in the other thread
            with suppress(_Abandoned):
                self._put(error)

    def _lines(self) -> Iterator[Line]:
        iterator = iter(self._source)
        while True:
            self._waiting_for_line.set()
            line = next(iterator, None)
            self._waiting_for_line.clear()
            if self._abandoned.is_set():
                raise _Abandoned
            if line is None:
                return
            yield line

    def _put(self, item: Window | BaseException | None) -> None:
        while not self._abandoned.is_set():
            try:
                return self._ahead.put(item, timeout=0.1)
            except queue.Full:
                continue
        raise _Abandoned

"""Lines to windows: parsed, tokenised in chunks, cut by rows, tokens and bytes, and read ahead."""

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from harmless_runtime.model.batches import Limits
from harmless_runtime.model.tokenizer import Encoded, PairTokenizer
from harmless_runtime.rows.prompt import question_and_answer
from harmless_runtime.rows.records import Line, Record, Reject, parse_line

# Rows tokenised at a time: enough to keep every core busy, few enough to hold lightly.
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
    """What is scored and written together, in input order."""

    items: list[Row | Reject]

    @property
    def rows(self) -> list[Row]:
        """The lines that can be scored."""
        return [item for item in self.items if isinstance(item, Row)]

    @property
    def rejects(self) -> list[Reject]:
        """The lines that cannot."""
        return [item for item in self.items if isinstance(item, Reject)]


def read_windows(
    lines: Iterable[Line], tokenizer: PairTokenizer, limits: Limits
) -> Iterator[Window]:
    """Parse and tokenise lines, and cut them into windows.

    Where the cuts fall depends on the lines since the last one and on the limits alone.
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


def read_ahead(lines: Iterable[Line], tokenizer: PairTokenizer, limits: Limits) -> Iterator[Window]:
    """Yield what `read_windows` yields, made one ahead in a thread; its errors are raised here.

    When the consumer stops, the thread is waited for, because an interpreter that exits under a
    thread inside the tokenizer aborts. Only a thread that waits for a line is left behind, so that
    a read which blocks, such as one from a terminal, does not keep an interrupted process alive.
    """
    ahead: queue.Queue[Window | BaseException | None] = queue.Queue(1)
    abandoned, waiting = threading.Event(), threading.Event()

    def watched() -> Iterator[Line]:
        iterator = iter(lines)
        while True:
            waiting.set()
            line = next(iterator, None)
            waiting.clear()
            if abandoned.is_set():
                raise _Abandoned
            if line is None:
                return
            yield line

    def put(item: Window | BaseException | None) -> None:
        while not abandoned.is_set():
            try:
                return ahead.put(item, timeout=0.1)
            except queue.Full:
                continue
        raise _Abandoned

    def produce() -> None:
        try:
            for window in read_windows(watched(), tokenizer, limits):
                put(window)
            put(None)
        except _Abandoned:
            pass
        except BaseException as error:  # handed to the consumer, whatever it is
            with suppress(_Abandoned):
                put(error)

    thread = threading.Thread(target=produce, name="reader", daemon=True)
    thread.start()
    try:
        while (item := ahead.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        abandoned.set()
        while thread.is_alive() and not waiting.is_set():
            thread.join(0.02)

"""Cut the rows of the inputs into windows, and tokenise them."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

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

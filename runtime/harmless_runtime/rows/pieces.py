"""Divide inputs into pieces that can be scored apart, with the same result as in one run.

A piece is some inputs that follow each other, or a span of a large one. It depends on the inputs
alone, so that it is the same on one machine and on many.
"""

from collections import deque
from collections.abc import Iterator

from harmless_runtime.rows.inputs import Inputs
from harmless_runtime.rows.records import Pair, Reject
from harmless_runtime.rows.sources import Source
from harmless_runtime.rows.spans import spans_of

Piece = tuple[Source, ...]


def pieces_of(inputs: Inputs, piece_bytes: int) -> list[Piece]:
    """Return the inputs of each piece, in order.

    Args:
        inputs: the inputs.
        piece_bytes: larger files are cut, and a piece ends with the input that makes it this large.
            An input of unknown size ends its piece as well.

    Raises:
        ShapeError, ConfigError, InputError: as `Inputs.shape`.
    """
    columns = inputs.shape(refuse=False).roots
    pieces: list[Piece] = []
    current: list[Source] = []
    size = 0

    def end_piece() -> None:
        nonlocal size
        if current:
            pieces.append(tuple(current))
        current.clear()
        size = 0

    for source in inputs.sources:
        spans = spans_of(source, columns, piece_bytes)
        if len(spans) > 1:
            end_piece()
            pieces.extend((span,) for span in spans)
            continue
        current.append(source)
        size += piece_bytes if source.bytes_read is None else source.bytes_read
        if size >= piece_bytes:
            end_piece()
    end_piece()
    return pieces


class PiecedRows:
    """The rows of inputs, and their places in the pieces.

    Args:
        inputs: the inputs.
        piece_bytes: as in `pieces_of`.
    """

    def __init__(self, inputs: Inputs, piece_bytes: int) -> None:
        self._inputs = inputs
        self._pieces = pieces_of(inputs, piece_bytes)
        self._begins: deque[int] = deque()
        self._read = 0
        self._asked = 0

    def rows(self) -> Iterator[Pair | Reject]:
        """Yield all rows in order, as `Inputs.rows` does.

        Raises:
            ShapeError, InputError, ConfigError: as `Inputs.rows`.
        """
        for item in self._inputs.rows(self._parts()):
            self._read += 1
            yield item

    def _parts(self) -> Iterator[Source]:
        for piece in self._pieces:
            self._begins.append(self._read)
            yield from piece

    def skip(self, rows: int) -> None:
        """Pass over the first rows, which `place` is not asked about."""
        self._asked = rows

    def place(self) -> int:
        """Return how many rows of its piece come before the next row.

        It is called for each row, after that is read.
        """
        row = self._asked
        self._asked += 1
        while len(self._begins) > 1 and self._begins[1] <= row:
            self._begins.popleft()
        return row - self._begins[0]

"""Divide inputs into pieces that can be scored apart, with the same result as in one run.

A piece is some inputs that follow each other. It depends on the sizes of the inputs alone, so that
it is the same on one machine and on many.
"""

from collections.abc import Sequence

from harmless_runtime.rows.records import Pair, Reject
from harmless_runtime.rows.sources import Source

# A piece ends with the input that makes it this large. That is about 16 million tokens, so what a
# piece costs besides its scoring, and the padding at the end of its last window, hardly count.
PIECE_BYTES = 64 * 2**20


def pieces_of(
    sources: Sequence[Source], piece_bytes: int = PIECE_BYTES
) -> list[tuple[Source, ...]]:
    """Return the inputs of each piece, in order. An input of unknown size ends its piece."""
    pieces: list[tuple[Source, ...]] = []
    current: list[Source] = []
    size = 0
    for source in sources:
        current.append(source)
        size += piece_bytes if source.size is None else source.size
        if size >= piece_bytes:
            pieces.append(tuple(current))
            current, size = [], 0
    return [*pieces, tuple(current)] if current else pieces


class PieceStarts:
    """Tells which rows of a run are the first ones of a piece.

    Args:
        sources: the inputs of the run.
        piece_bytes: as in `Run`.
    """

    def __init__(self, sources: Sequence[Source], piece_bytes: int = PIECE_BYTES) -> None:
        pieces = pieces_of(sources, piece_bytes)
        self._names = [source.name for piece in pieces for source in piece]
        self._pieces = [i for i, piece in enumerate(pieces) for _ in piece]
        self._place = self._number = self._piece = 0

    def __call__(self, item: Pair | Reject) -> bool:
        """Return whether a row is in another piece than the row before it. Rows come in order."""
        if item.number < self._number:  # an input may be named twice
            self._place += 1
        self._number = item.number
        while self._names[self._place] != item.source:
            self._place += 1
        before, self._piece = self._piece, self._pieces[self._place]
        return self._piece != before

"""Read the results of pieces again, in the order of the rows."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harmless_runtime.cluster.manifest import Attempt, Manifest
from harmless_runtime.cluster.storage import Storage
from harmless_runtime.errors import OutputError
from harmless_runtime.output.state import START_AGAIN
from harmless_runtime.rows.output_lines import reject_with_line_added, with_line_added
from harmless_runtime.rows.pieces import Piece

_BLOCK_BYTES = 2**20

Blocks = Iterator[list[bytes]]


@dataclass(frozen=True)
class Result:
    """The results of a piece.

    Attributes:
        attempt: names them.
        storage: where they are.
        before: lines of the file before the span that the piece is.
    """

    attempt: Attempt
    storage: Storage
    before: int

    def scores(self, *, details: bool) -> Blocks:
        """Yield the lines of scores, a megabyte at a time.

        Args:
            details: whether they have numbers of lines.

        Raises:
            OutputError: they are not what was written.
            OSError: they cannot be read.
        """
        blocks = self._lines("scores.jsonl", self.attempt.tally.rows)
        if not details or not self.before:
            return blocks
        return ([with_line_added(line, self.before) for line in block] for block in blocks)

    def rejects(self) -> Blocks:
        """Yield the lines of rejects, as `scores` does it."""
        blocks = self._lines("rejects.jsonl", self.attempt.tally.rejected)
        if not self.before:
            return blocks
        return ([reject_with_line_added(line, self.before) for line in block] for block in blocks)

    def _lines(self, name: str, count: int) -> Blocks:
        claim = self.attempt.files[name]
        digest = hashlib.sha256()
        if claim.size:
            with self.storage.open(self.attempt.name, name) as file:
                while block := file.readlines(_BLOCK_BYTES):
                    digest.update(b"".join(block))
                    count -= len(block)
                    yield block
        if digest.hexdigest() != claim.sha256 or count:
            where = f"{self.storage.where}/{self.attempt.name}/{name}"
            raise OutputError(f"{where} was changed since it was written", START_AGAIN)


def results_of(pieces: Sequence[Piece], manifest: Manifest) -> list[Result]:
    """Return the results of all pieces, which are scored."""
    results: list[Result] = []
    lines = 0
    for number, piece in enumerate(pieces):
        attempt = manifest.done[number]
        lines = lines if piece[0].is_continued else 0
        results.append(Result(attempt, manifest.storage, lines))
        lines += attempt.lines
    return results


def rows_of_inputs(pieces: Sequence[Piece], manifest: Manifest) -> list[int | None]:
    """Return the number of rows of each input, of which a piece may be a span, or None."""
    found: list[int | None] = []
    for number, piece in enumerate(pieces):
        counts: Sequence[int | None] = manifest.done[number].counts or [None] * len(piece)
        for source, count in zip(piece, counts, strict=True):
            before = found.pop() if source.is_continued else 0
            found.append(None if before is None or count is None else before + count)
    return found

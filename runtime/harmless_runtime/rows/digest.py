"""Hash rows, so that they can be compared with those that were scored."""

import hashlib
from collections.abc import Iterable

from harmless_runtime.rows.records import Pair, Reject


class InputDigest:
    """Counts rows, and hashes what was read of them."""

    def __init__(self) -> None:
        self.lines = 0
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """SHA-256 of the rows so far, in hexadecimal."""
        return self._digest.hexdigest()

    def add(self, rows: Iterable[Pair | Reject]) -> None:
        """Count the next rows. Their numbers are hashed as well as their ids and texts."""
        for row in rows:
            if isinstance(row, Pair):
                texts = row.id, row.question.encode(), row.answer.encode()
                self._digest.update(b"%d %d %d %d\n" % (row.number, *map(len, texts)))
                self._digest.update(b"".join(texts))
            else:
                self._digest.update(b"%d %d\n" % (row.number, row.length or len(row.raw)))
                self._digest.update(row.raw)
            self.lines += 1

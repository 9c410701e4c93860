"""Hash rows, so that they can be compared with those that were scored."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from harmless_runtime.rows.records import Pair, Reject

# A prime, and any number below it.
_PRIME = 2**255 - 19
_BASE = int.from_bytes(hashlib.sha256(b"harmless-scorer").digest()) % _PRIME


@dataclass
class InputDigest:
    """Counts rows, and hashes what was read of them.

    The SHA-256 of the rows are the coefficients of a polynomial, whose value is the hash. It is the
    fingerprint of Karp and Rabin (https://doi.org/10.1147/rd.312.0249) with hashes in place of
    characters. So the hash of rows that follow each other can be made of the hashes of their parts,
    which several machines have read.

    Attributes:
        lines: number of rows.
        value: their hash.
    """

    lines: int = 0
    value: int = 0

    @property
    def text(self) -> str:
        """The hash in hexadecimal."""
        return f"{self.value:064x}"

    def add(self, rows: Iterable[Pair | Reject]) -> None:
        """Count the next rows. Their ids and texts are hashed, and not the numbers of lines."""
        value, lines = self.value, self.lines
        for row in rows:
            if isinstance(row, Pair):
                texts = row.id, row.question.encode(), row.answer.encode()
                content = b"%d %d %d\n" % tuple(map(len, texts)) + b"".join(texts)
            else:
                content = b"%d\n%b" % (row.length or len(row.raw), row.raw)
            value = (value * _BASE + int.from_bytes(hashlib.sha256(content).digest())) % _PRIME
            lines += 1
        self.value, self.lines = value, lines

    def add_part(self, lines: int, text: str) -> None:
        """Count rows that were hashed apart.

        Args:
            lines: number of the rows.
            text: the `text` of their digest.
        """
        self.value = (self.value * pow(_BASE, lines, _PRIME) + int(text, 16)) % _PRIME
        self.lines += lines

"""Keep the scores of any number of rows on the disk, eight bytes a row, and find cuts in them."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import IO

import numpy as np
from numpy.typing import NDArray

_BLOCK_ROWS = 2**16
# The bits of a score are counted by 16 at a time, from the upper ones.
_DIGIT_BITS = 16
_DIGITS = 64 // _DIGIT_BITS
_SIGN = np.uint64(2**63)

Scores = NDArray[np.float64]
Keys = NDArray[np.uint64]


@dataclass(frozen=True)
class Place:
    """A score, its place among the scores that are equal to it, from 1, and how many these are."""

    score: float
    place: int
    equals: int


class Spool:
    """Scores in a temporary file. `spooled` makes it. A row without a score has NaN.

    Attributes:
        rows: number of rows.
        scored: number of rows that have a score.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.rows = self.scored = 0

    def add(self, scores: Iterable[float | None]) -> None:
        """Add the scores of the next rows."""
        left = iter(scores)
        while block := list(islice(left, _BLOCK_ROWS)):
            values = np.array(block, np.float64)  # None becomes NaN
            self.rows += len(values)
            self.scored += int(np.isfinite(values).sum())
            self._file.write(values.tobytes())

    def blocks(self) -> Iterator[Scores]:
        """Yield all scores in order, 65,536 at a time."""
        self._file.seek(0)
        while data := self._file.read(8 * _BLOCK_ROWS):
            yield np.frombuffer(data, np.float64)

    def nth(self, n: int) -> Place:
        """Return the n-th smallest score, counted from 1.

        The keys of the scores are counted by their upper 16 bits, then those that share the upper
        bits of the n-th by their next 16, and so on. So memory does not grow with the rows (radix
        select).
        """
        key = equals = 0
        for digit in range(_DIGITS):
            counts = self._counts(key, digit)
            ends = np.cumsum(counts)
            found = int(np.searchsorted(ends, n))
            equals = int(counts[found])
            n -= int(ends[found]) - equals
            key = (key << _DIGIT_BITS) + found
        return Place(_score_of(key), n, equals)

    def _counts(self, upper: int, digit: int) -> NDArray[np.int64]:
        """Count the values of one digit in the keys whose digits before it are `upper`."""
        counts = np.zeros(2**_DIGIT_BITS, np.int64)
        shift = np.uint64(_DIGIT_BITS * (_DIGITS - 1 - digit))
        for scores in self.blocks():
            keys = _keys_of(scores[np.isfinite(scores)]) >> shift
            if digit:
                keys = keys[keys >> np.uint64(_DIGIT_BITS) == np.uint64(upper)]
            low = (keys & np.uint64(2**_DIGIT_BITS - 1)).astype(np.int64)
            counts += np.bincount(low, minlength=2**_DIGIT_BITS)
        return counts


@contextmanager
def spooled(scores: Iterable[float | None]) -> Iterator[Spool]:
    """Keep scores in a temporary file for as long as the block runs."""
    with tempfile.TemporaryFile() as file:
        spool = Spool(file)
        spool.add(scores)
        yield spool


def _keys_of(scores: Scores) -> Keys:
    """Return integers that have the order of the scores.

    The bits of a positive float have the order of its value, those of a negative one the reverse.
    """
    bits = (scores + 0.0).view(np.uint64)  # -0.0 becomes 0.0, which it is equal to
    keys: Keys = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return keys


def _score_of(key: int) -> float:
    bits = key - 2**63 if key >= 2**63 else ~key % 2**64
    return float(np.array([bits], np.uint64).view(np.float64)[0])

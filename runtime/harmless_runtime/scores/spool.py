"""Keep the scores of any number of rows on the disk, four bytes a row, and find cuts in them."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

_BLOCK_ROWS = 2**16
_HALF_BITS = np.uint32(16)
_HALF = 2**16
_SIGN = np.uint32(2**31)

Scores = NDArray[np.float32]
Keys = NDArray[np.unsignedinteger[Any]]


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
            values = np.array(block, np.float32)  # None becomes NaN
            self.rows += len(values)
            self.scored += int(np.isfinite(values).sum())
            self._file.write(values.tobytes())

    def blocks(self) -> Iterator[Scores]:
        """Yield all scores in order, 65,536 at a time."""
        self._file.seek(0)
        while data := self._file.read(4 * _BLOCK_ROWS):
            yield np.frombuffer(data, np.float32)

    def nth(self, n: int) -> Place:
        """Return the n-th smallest score, counted from 1.

        The keys of the scores are counted by their upper 16 bits, and those that share the upper
        bits of the n-th by their lower ones. So memory does not grow with the rows (radix select).
        """
        upper, n, _ = self._nth_digit(lambda keys: keys >> _HALF_BITS, n)
        lower, n, equals = self._nth_digit(
            lambda keys: keys[keys >> _HALF_BITS == upper] & np.uint32(_HALF - 1), n
        )
        return Place(_score_of(upper * _HALF + lower), n, equals)

    def _nth_digit(self, digits: Callable[[Keys], Keys], n: int) -> tuple[int, int, int]:
        """Return the n-th smallest digit, its place among its equals, and how many these are."""
        counts = np.zeros(_HALF, np.int64)
        for scores in self.blocks():
            keys = _keys_of(scores[np.isfinite(scores)])
            counts += np.bincount(digits(keys), minlength=_HALF)
        ends = np.cumsum(counts)
        digit = int(np.searchsorted(ends, n))
        return digit, n - int(ends[digit] - counts[digit]), int(counts[digit])


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
    bits = (scores + np.float32(0)).view(np.uint32)  # -0.0 becomes 0.0, which it is equal to
    keys: Keys = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return keys


def _score_of(key: int) -> float:
    bits = key - 2**31 if key >= 2**31 else ~key % 2**32
    return float(np.array([bits], np.uint32).view(np.float32)[0])

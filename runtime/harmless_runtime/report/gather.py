"""Gather what a report shows of scored rows, in one pass: numbers of all rows, and some texts."""

import heapq
import random
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from harmless_runtime.report.cuts import check_range
from harmless_runtime.report.row import ScoredRow, shortened

# Rows whose texts are kept until the page is made: drawn at random, and with extreme scores.
_DRAWN = 4000
_EXTREME = 30
# Most characters that are kept of an answer.
CHARACTERS = 1500
# Rows of further groups are counted together.
_MOST_GROUPS = 100_000


@dataclass(frozen=True)
class Gathered:
    """What was gathered.

    Attributes:
        scores: float64 [scored].
        lengths: int64 [scored], the lengths of the rows in tokens, or else in characters. Empty if
            neither is known.
        in_tokens: whether the lengths are in tokens.
        groups: the names of the groups. None has the rows that lack the field.
        has_more_groups: whether the last group has the rows of all further ones.
        group: int64 [scored], the index of each row's group.
        without_score: number of rows without a score.
        truncated: number of rows of which tokens were cut off, as far as the scores tell.
        drawn: rows drawn at random, by their scores. All rows, if they are few.
        lowest: the rows with the lowest scores, the lowest first.
        highest: the rows with the highest scores, the highest first.
    """

    scores: NDArray[np.float64]
    lengths: NDArray[np.int64]
    in_tokens: bool
    groups: list[str | None]
    has_more_groups: bool
    group: NDArray[np.int64]
    without_score: int
    truncated: int
    drawn: list[ScoredRow]
    lowest: list[ScoredRow]
    highest: list[ScoredRow]

    @property
    def rows(self) -> int:
        """Number of all rows."""
        return len(self.scores) + self.without_score


@dataclass
class _Extreme:
    """The rows with the highest values so far. Of equal ones the first are kept."""

    heap: list[tuple[float, int, ScoredRow]] = field(default_factory=list)
    least: float = -np.inf

    def add(self, value: float, index: int, row: ScoredRow) -> None:
        if len(self.heap) < _EXTREME:
            heapq.heappush(self.heap, (value, -index, shortened(row, CHARACTERS)))
        elif value > self.least:
            heapq.heapreplace(self.heap, (value, -index, shortened(row, CHARACTERS)))
        if len(self.heap) == _EXTREME:
            self.least = self.heap[0][0]

    def rows(self) -> list[ScoredRow]:
        return [row for _, _, row in sorted(self.heap, key=lambda each: each[:2], reverse=True)]


class _Drawn:
    """Rows drawn at random, each with the same chance.

    Algorithm L of K.-H. Li, Reservoir-sampling algorithms of time complexity O(n(1 + log(N/n))),
    ACM TOMS 20 (1994): it tells which row comes in next, so that the others cost nothing.
    """

    def __init__(self) -> None:
        self.rows: list[ScoredRow] = []
        self._random = random.Random(0)
        self._w = 1.0
        self.next = 0

    def add(self, index: int, row: ScoredRow) -> None:
        """Take the row whose turn it is."""
        if len(self.rows) < _DRAWN:
            self.rows.append(shortened(row, CHARACTERS))
            self.next = index + 1
            if len(self.rows) < _DRAWN:
                return
        else:
            self.rows[self._random.randrange(_DRAWN)] = shortened(row, CHARACTERS)
        self._w *= self._random.random() ** (1 / _DRAWN)
        skipped = np.log(self._random.random()) / np.log1p(-self._w)
        self.next = index + 1 + int(skipped)


def gather(rows: Iterable[ScoredRow]) -> Gathered:
    """Read all rows, and gather what a report shows.

    Args:
        rows: the rows.

    Raises:
        InputError: as `check_range`.
    """
    scores, tokens, characters, group = array("d"), array("q"), array("q"), array("q")
    codes: dict[str | None, int] = {}
    without_score = truncated = 0
    lowest, highest, drawn = _Extreme(), _Extreme(), _Drawn()
    for row in rows:
        score = row.score
        if score is None:
            without_score += 1
            continue
        index = len(scores)
        scores.append(score)
        tokens.append(-1 if row.tokens is None else row.tokens)
        characters.append(len(row.question) + len(row.answer))
        truncated += row.truncated
        code = codes.get(row.group, _MOST_GROUPS)
        if code == _MOST_GROUPS > len(codes):
            code = codes[row.group] = len(codes)
        group.append(code)
        if score > highest.least or index < _EXTREME:
            highest.add(score, index, row)
        if -score > lowest.least or index < _EXTREME:
            lowest.add(-score, index, row)
        if index == drawn.next:
            drawn.add(index, row)
    has_more = _MOST_GROUPS in group
    in_tokens = len(tokens) > 0 and min(tokens) >= 0
    lengths = np.array(tokens if in_tokens else characters, np.int64)
    return Gathered(
        check_range(np.array(scores, np.float64)),
        lengths if lengths.any() else np.zeros(0, np.int64),
        in_tokens,
        [*codes, *(["(other)"] if has_more else [])],
        has_more,
        np.array(group, np.int64),
        without_score,
        truncated,
        sorted(drawn.rows, key=lambda row: row.score or 0.0),
        lowest.rows(),
        highest.rows(),
    )

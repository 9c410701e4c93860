"""Compare the scores that two runs gave to the same rows."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harmless_runtime.errors import InputError
from harmless_runtime.report.gather import shortened
from harmless_runtime.report.scored_rows import ScoredRow, ScoredRows

_MOVED = 30
# Shares of rows that people cut off.
_SHARES = (0.05, 0.1, 0.25, 0.5)


@dataclass(frozen=True)
class Moved:
    """A row, and its two scores."""

    row: ScoredRow
    first: float
    second: float


@dataclass(frozen=True)
class Comparison:
    """Two scores of the same rows.

    Attributes:
        first: float64 [rows], the scores of the first run.
        second: float64 [rows], those of the second.
        only_one: number of rows that have a score in only one of the runs.
        moved: the rows whose scores differ most.
    """

    first: NDArray[np.float64]
    second: NDArray[np.float64]
    only_one: int
    moved: list[Moved]

    @property
    def pearson(self) -> float:
        """Pearson's correlation coefficient."""
        return _correlation(self.first, self.second)

    @property
    def spearman(self) -> float:
        """Spearman's correlation coefficient."""
        return _correlation(_ranks(self.first), _ranks(self.second))

    @property
    def differences(self) -> NDArray[np.float64]:
        """float64 [rows], how far the two scores of a row are apart."""
        return np.abs(self.first - self.second)

    def changed_sides(self) -> list[tuple[float, float]]:
        """Return what share of rows changes side if each run drops a share of its lowest scores.

        Returns:
            Pairs of the share that is dropped and the share of rows that only one run keeps.
        """
        shares = []
        for share in _SHARES:
            kept = [scores >= np.quantile(scores, share) for scores in (self.first, self.second)]
            shares.append((share, float((kept[0] != kept[1]).mean())))
        return shares


def compare(first: ScoredRows, second: ScoredRows) -> Comparison:
    """Read two runs, and compare the scores of the rows that have one in both.

    Rows belong together that have the same place among all rows, if both runs have the same rows in
    the same order, and otherwise the same id.

    Raises:
        InputError: the runs have other rows, or no ids that tell which belong together.
    """
    ids, scores = zip(*(_read(rows) for rows in (first, second)), strict=True)
    if ids[0] == ids[1]:
        places = np.arange(len(ids[0]))
        pairs = np.stack([places, places])
    else:
        pairs = _by_id(first.name, second.name, *ids)
    only_one = len(ids[0]) + len(ids[1]) - 2 * pairs.shape[1]
    a, b = scores[0][pairs[0]], scores[1][pairs[1]]
    if not len(a):
        raise InputError(f"{first.name} and {second.name} have no rows in common")
    order = np.argsort(-np.abs(a - b), kind="stable")[:_MOVED].tolist()
    wanted = {int(pairs[0][i]): i for i in order}
    rows = {wanted[i]: shortened(row) for i, row in _scored(first) if i in wanted}
    return Comparison(a, b, only_one, [Moved(rows[i], float(a[i]), float(b[i])) for i in order])


def _scored(rows: Iterable[ScoredRow]) -> Iterable[tuple[int, ScoredRow]]:
    return enumerate(row for row in rows if row.score is not None)


def _read(rows: ScoredRows) -> tuple[list[str], NDArray[np.float64]]:
    ids, scores = [], []
    for _, row in _scored(rows):
        ids.append(row.id)
        scores.append(row.score)
    return ids, np.array(scores, np.float64)


def _by_id(first: str, second: str, a: list[str], b: list[str]) -> NDArray[np.int64]:
    """Return the places of the rows that both runs have: int64 [2, rows]."""
    for name, ids in ((first, a), (second, b)):
        if len(set(ids)) < len(ids):
            raise InputError(
                f"the rows of {name} cannot be told apart by their ids, and the two runs have "
                "different rows",
                "name two runs over the same rows",
            )
    places = {row_id: place for place, row_id in enumerate(b)}
    found = [(i, places[row_id]) for i, row_id in enumerate(a) if row_id in places]
    return np.array(found, np.int64).reshape(-1, 2).T


def _ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ranks of scores, of which equal ones share the mean of theirs."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: NDArray[np.float64] = (ends - (counts - 1) / 2)[place]
    return ranks


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if len(a) < 2 or not a.std() or not b.std():
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])

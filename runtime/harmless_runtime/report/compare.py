"""Compare the scores that two runs gave to the same rows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harmless_runtime.errors import InputError
from harmless_runtime.report.gather import CHARACTERS
from harmless_runtime.report.pairing import paired_by_id, read_run, same_places
from harmless_runtime.report.row import ScoredRow, shortened
from harmless_runtime.report.scored_rows import ScoredRows

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
        other_texts: number of rows that belong together by their ids, and have other texts.
        unknown_texts: number of rows that belong together by their ids, of which it is not known
            whether they have the same texts.
        moved: the rows whose scores differ most.
    """

    first: NDArray[np.float64]
    second: NDArray[np.float64]
    only_one: int
    other_texts: int
    unknown_texts: int
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

    If the runs had the same rows, those in the same place belong together, and otherwise those with
    the same id.

    Raises:
        InputError: the runs have other rows, or no ids that tell which belong together; or as
            `check_range`.
    """
    one, two = read_run(first), read_run(second)
    places = same_places(one, two)
    pairs = paired_by_id(one, two) if places is None else places
    a, b = one.scores[pairs[0]], two.scores[pairs[1]]
    scored = np.isfinite(a) & np.isfinite(b)
    pairs, a, b = pairs[:, scored], a[scored], b[scored]
    if not len(a):
        raise InputError(f"{first.name} and {second.name} have no scored rows in common")
    all_scores = sum(int(np.isfinite(read.scores).sum()) for read in (one, two))
    known = one.has_text[pairs[0]] & two.has_text[pairs[1]]
    differ = one.texts[pairs[0]] != two.texts[pairs[1]]
    order = np.argsort(-np.abs(a - b), kind="stable")[:_MOVED].tolist()
    wanted = {int(pairs[0][i]): i for i in order}
    rows = {wanted[i]: shortened(row, CHARACTERS) for i, row in enumerate(first) if i in wanted}
    return Comparison(
        a,
        b,
        all_scores - 2 * len(a),
        int((known & differ).sum()),
        int((~known).sum()) if places is None else 0,
        [Moved(rows[i], float(a[i]), float(b[i])) for i in order],
    )


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

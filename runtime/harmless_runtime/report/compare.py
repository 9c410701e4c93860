"""Compare the scores that two runs gave to the same rows."""

from contextlib import suppress
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from harmless_runtime.errors import InputError
from harmless_runtime.report.cuts import check_range
from harmless_runtime.report.gather import CHARACTERS
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
        moved: the rows whose scores differ most.
    """

    first: NDArray[np.float64]
    second: NDArray[np.float64]
    only_one: int
    other_texts: int
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


@dataclass(frozen=True)
class _Read:
    """All rows of a run in their order: `scores` has NaN for rows without one.

    `ids` are texts. `texts` is int64 [rows], a hash of each row's texts, or None if no texts are
    known. Hashes are those of this process.
    """

    rows: ScoredRows
    ids: list[str]
    scores: NDArray[np.float64]
    texts: NDArray[np.int64] | None

    @property
    def has_all_rows(self) -> bool:
        """Whether rows without a score have their places among the others."""
        record = self.rows.record
        return self.texts is not None or bool(record and not record.counts.get("rejected"))


def compare(first: ScoredRows, second: ScoredRows) -> Comparison:
    """Read two runs, and compare the scores of the rows that have one in both.

    If the runs had the same rows, those in the same place belong together, and otherwise those with
    the same id.

    Raises:
        InputError: the runs have other rows, or no ids that tell which belong together; or as
            `check_range`.
    """
    one, two = _read(first), _read(second)
    if _have_same_rows(one, two):
        places = np.arange(len(one.ids))
        pairs = np.stack([places, places])
    else:
        pairs = _by_id(one, two)
    scored = [np.isfinite(read.scores[own]) for read, own in zip((one, two), pairs, strict=True)]
    pairs = pairs[:, scored[0] & scored[1]]
    a, b = one.scores[pairs[0]], two.scores[pairs[1]]
    if not len(a):
        raise InputError(f"{first.name} and {second.name} have no scored rows in common")
    other_texts = 0
    if one.texts is not None and two.texts is not None:
        other_texts = int((one.texts[pairs[0]] != two.texts[pairs[1]]).sum())
    all_scores = sum(int(np.isfinite(read.scores).sum()) for read in (one, two))
    order = np.argsort(-np.abs(a - b), kind="stable")[:_MOVED].tolist()
    wanted = {int(pairs[0][i]): i for i in order}
    rows = {wanted[i]: shortened(row, CHARACTERS) for i, row in enumerate(first) if i in wanted}
    moved = [Moved(rows[i], float(a[i]), float(b[i])) for i in order]
    return Comparison(a, b, all_scores - 2 * len(a), other_texts, moved)


def _read(rows: ScoredRows) -> _Read:
    ids, scores, texts = [], [], []
    for row in rows:
        ids.append(_compact(row.id))
        scores.append(row.score)
        texts.append(hash((row.question, row.answer)))
    known = np.array(texts, np.int64) if rows.inputs is not None else None
    return _Read(rows, ids, check_range(np.array(scores, np.float64)), known)


def _compact(row_id: str) -> str:
    """Return an id without the spaces that an object or a list may have between its parts."""
    if row_id[:1] in ("{", "["):
        with suppress(msgspec.DecodeError):
            return msgspec.json.format(row_id, indent=-1)
    return row_id


def _have_same_rows(one: _Read, two: _Read) -> bool:
    """Return whether two runs had the same rows in the same order."""
    records = one.rows.record, two.rows.record
    if len(one.ids) != len(two.ids) or not (one.has_all_rows and two.has_all_rows):
        return False
    if records[0] is not None and records[1] is not None:
        return records[0].digest == records[1].digest
    if one.texts is None or two.texts is None:
        return False
    # Of rows without a score, neither the id nor the texts may be known.
    scored = np.isfinite(one.scores) & np.isfinite(two.scores)
    places = np.flatnonzero(scored).tolist()
    return np.array_equal(one.texts[scored], two.texts[scored]) and all(
        one.ids[place] == two.ids[place] for place in places
    )


def _by_id(one: _Read, two: _Read) -> NDArray[np.int64]:
    """Return the places of the rows with scores whose ids both runs have: int64 [2, rows]."""
    places: list[dict[str, int]] = []
    for read in (one, two):
        own = np.flatnonzero(np.isfinite(read.scores)).tolist()
        places.append({read.ids[place]: place for place in own})
        if len(places[-1]) < len(own):
            raise InputError(
                f"the rows of {read.rows.name} cannot be told apart by their ids, and it is not "
                "known that the two runs had the same rows",
                "compare two runs over the same rows; `rows` names their inputs, if they are not "
                "where they were",
            )
    found = [(place, places[1][i]) for i, place in places[0].items() if i in places[1]]
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

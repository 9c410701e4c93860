"""Find out which rows of two runs belong together."""

from contextlib import suppress
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from harmless_runtime.errors import InputError
from harmless_runtime.report.cuts import check_range
from harmless_runtime.report.scored_rows import ScoredRows


@dataclass(frozen=True)
class ReadRun:
    """All rows of a run in their order.

    Attributes:
        rows: the run.
        ids: as texts. "" stands for none.
        scores: float64 [rows], NaN for rows without one.
        texts: int64 [rows], a hash of each row's texts. Hashes are those of this process.
        has_text: bool [rows], whether the row's texts are known.
    """

    rows: ScoredRows
    ids: list[str]
    scores: NDArray[np.float64]
    texts: NDArray[np.int64]
    has_text: NDArray[np.bool_]

    @property
    def scored(self) -> NDArray[np.int64]:
        """int64 [scored], the places of the rows that have a score."""
        return np.flatnonzero(np.isfinite(self.scores))


def read_run(rows: ScoredRows) -> ReadRun:
    """Read a run.

    Raises:
        InputError: as `check_range`, or the rows cannot be read.
    """
    ids, scores, texts, has_text = [], [], [], []
    for row in rows:
        ids.append(_compact(row.id))
        scores.append(row.score)
        texts.append(hash((row.question, row.answer)))
        has_text.append(bool(row.question))
    checked = check_range(np.array(scores, np.float64))
    return ReadRun(rows, ids, checked, np.array(texts, np.int64), np.array(has_text, np.bool_))


def _compact(row_id: str) -> str:
    """Return an id without the spaces that an object or a list may have between its parts."""
    if row_id[:1] in ("{", "["):
        with suppress(msgspec.DecodeError):
            return msgspec.json.format(row_id, indent=-1)
    return row_id


def same_places(one: ReadRun, two: ReadRun) -> NDArray[np.int64] | None:
    """Return the places of the rows that belong together, if both runs had the same rows.

    Returns:
        int64 [2, rows], or None if it is not known that they had.
    """
    if _have_equal_records(one, two):
        record = one.rows.record
        if record is not None and len(one.ids) == len(two.ids) == record.lines:
            return np.stack([np.arange(record.lines)] * 2)
        # Without the rows that have no score, places are still the same if these are.
        if len(one.scored) == len(two.scored) and _rejected(one) == _rejected(two):
            return np.stack([one.scored, two.scored])
        return None
    if len(one.ids) != len(two.ids):
        return None
    # Of rows without a score, neither the id nor the texts may be known.
    both = np.intersect1d(one.scored, two.scored, assume_unique=True)
    have_texts = len(both) > 0 and bool((one.has_text & two.has_text)[both].all())
    have_same_ids = all(one.ids[place] == two.ids[place] for place in both.tolist())
    if have_texts and have_same_ids and np.array_equal(one.texts[both], two.texts[both]):
        return np.stack([both, both])
    return None


def _have_equal_records(one: ReadRun, two: ReadRun) -> bool:
    first, second = one.rows.record, two.rows.record
    if first is None or second is None or first.digest is None:
        return False
    return first.digest == second.digest


class _Reject(msgspec.Struct):
    line: int


def _rejected(read: ReadRun) -> list[int]:
    """Return the line numbers of a run's rejects, as far as they can be read."""
    found: list[int] = []
    with suppress(OSError, msgspec.DecodeError), read.rows.rejects.open("rb") as lines:
        found.extend(msgspec.json.decode(line, type=_Reject).line for line in lines)
    return found


def paired_by_id(one: ReadRun, two: ReadRun) -> NDArray[np.int64]:
    """Return the places of the rows with scores whose ids both runs have: int64 [2, rows].

    Raises:
        InputError: a run has no ids, or the same id twice.
    """
    places: list[dict[str, int]] = []
    for read in (one, two):
        own = [place for place in read.scored.tolist() if read.ids[place]]
        places.append({read.ids[place]: place for place in own})
        if len(places[-1]) < len(own) or (len(read.scored) and not own):
            raise InputError(
                f"the rows of {read.rows.name} cannot be told apart by their ids, and it is not "
                "known that the two runs had the same rows",
                "compare two runs over the same rows; `rows` names their inputs, if they are not "
                "where they were",
            )
    found = [(place, places[1][i]) for i, place in places[0].items() if i in places[1]]
    return np.array(found, np.int64).reshape(-1, 2).T

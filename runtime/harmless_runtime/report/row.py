"""Say what a report knows of a row."""

import math
from collections.abc import Mapping
from typing import Any

import msgspec


class ScoredRow(msgspec.Struct, frozen=True, gc=False):
    """A row and its score.

    Attributes:
        score: None if the row has none.
        id: as a text.
        source: name of its input, or "" if that is not known.
        number: its number in the input, or among the scores.
        question: Q, or "" if the rows are not known.
        answer: A, likewise.
        tokens: number of its tokens, if the scores have details.
        truncated: whether tokens were cut off, likewise.
        group: its value in the column that rows are grouped by, or None if it lacks that; or its
            input.
        left_out: number of characters that are missing at the beginning of the question, and at the
            end of the answer.
    """

    score: float | None
    id: str
    source: str
    number: int
    question: str = ""
    answer: str = ""
    tokens: int | None = None
    truncated: bool = False
    group: str | None = ""
    left_out: tuple[int, int] = (0, 0)


def shortened(row: ScoredRow, characters: int) -> ScoredRow:
    """Return a row with shorter texts: the beginning of its answer, and the end of its question.

    Args:
        row: the row.
        characters: most characters of the answer. Half as many are kept of the question.
    """
    before = max(0, len(row.question) - characters // 2)
    after = max(0, len(row.answer) - characters)
    if not before and not after:
        return row
    missing = row.left_out
    return msgspec.structs.replace(
        row,
        question=row.question[before:],
        answer=row.answer[: len(row.answer) - after],
        left_out=(missing[0] + before, missing[1] + after),
    )


def finite(value: Any) -> float | None:
    """Return a score, or None if it is not finite."""
    number = float(value)
    return number if math.isfinite(number) else None


def group_of(values: Mapping[str, Any] | None, by: str) -> str | None:
    """Return the group of a row by one of its fields, or None if it lacks that."""
    return None if values is None or by not in values else text_of(values[by])


def text_of(value: Any) -> str:
    """Return a value as a text: a string as it is, and everything else as JSON."""
    if isinstance(value, str):
        return value
    try:
        return msgspec.json.encode(value, enc_hook=str).decode()
    except (TypeError, ValueError, OverflowError, RecursionError):
        return type(value).__name__

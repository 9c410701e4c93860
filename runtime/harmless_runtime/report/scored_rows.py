"""Read scored rows: the scores of a run in step with its rows, or joined rows, or scores alone."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from harmless_runtime.choices import SCORE_COLUMN
from harmless_runtime.config import LINE_BYTES
from harmless_runtime.errors import InputError, ShapeError
from harmless_runtime.report.run_inputs import inputs_of
from harmless_runtime.rows.expand import find_sources
from harmless_runtime.rows.inputs import FIRST_ROWS, Inputs
from harmless_runtime.rows.records import Pair
from harmless_runtime.rows.shapes import KNOWN, Reading
from harmless_runtime.rows.sources import Source
from harmless_runtime.scores.columns import values_of
from harmless_runtime.scores.earlier import (
    EarlierRun,
    decode_line,
    files_beside,
    find_run,
    lines_of,
    rows_with_scores,
)
from harmless_runtime.scores.log import text_of_id
from harmless_runtime.scores.record import RunRecord, read_record

logger = logging.getLogger(__name__)

_ANY_LENGTH = 2**30
# The group of rows that lack the field.
NO_VALUE = "(none)"


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
        group: its value in the column that rows are grouped by, or its input.
    """

    score: float | None
    id: str
    source: str
    number: int
    question: str = ""
    answer: str = ""
    tokens: int | None = None
    truncated: bool = False
    group: str = ""


@dataclass(frozen=True)
class ScoredRows:
    """Rows that can be read again and again.

    Attributes:
        name: the output of the run, as it was named.
        record: what the run did, or None if its record is gone.
        rejects: the file of rejects, which may not exist.
        inputs: the rows, or None if only their scores are known.
        run: the run whose scores they have, or None if the rows hold the scores themselves.
        column: the field of the scores in the rows.
        by: the field that rows are grouped by, or None for their inputs.
    """

    name: str
    record: RunRecord | None
    rejects: Path
    inputs: Inputs | None
    run: EarlierRun | None
    column: str
    by: str | None

    @property
    def files(self) -> list[Path]:
        """The files that are read for the report. Some may not exist."""
        own = self.run.files if self.run else ()
        sources = self.inputs.sources if self.inputs else ()
        inputs = [Path(source.where) for source in sources if source.kind == "file"]
        return [Path(self.name), *files_beside(Path(self.name)), *own, *inputs]

    def __iter__(self) -> Iterator[ScoredRow]:
        if self.inputs is None:
            assert self.run is not None
            return _scores_alone(self.run)
        if self.run is None:
            return _joined_rows(self.inputs, self.column, self.by)
        return _rows_and_scores(self.run, self.inputs, self.by)


def open_scored_rows(scores: str, rows: Sequence[str], by: str | None) -> ScoredRows:
    """Find what a run has left, and its rows.

    Args:
        scores: the output of `harmless score`: scores, or rows joined with them.
        rows: the inputs of the run, if they are not where its record says.
        by: the field of the rows that they are to be grouped by.

    Raises:
        InputError: there is no such output, or the rows are needed and not found.
        OutputError: the output was changed since the run wrote it, or its record is damaged.
    """
    path = Path(scores)
    rejects, record_path = files_beside(path)
    record = read_record(record_path)
    sources = find_sources([scores], with_outputs=True)
    column = _score_column(sources, record)
    if column is not None:
        if rows:
            raise InputError(f"{scores} holds rows joined with their scores", "leave `rows` out")
        joined = _read_as(sources, record, _ANY_LENGTH)  # rows became longer by their scores
        return ScoredRows(scores, record, rejects, joined, None, column, by)
    run = find_run(path)
    found = find_sources(rows) if rows else inputs_of(record, record_path.parent)
    if found is None and by is not None:
        raise InputError(
            f"the rows of {scores} are not where they were, and {by} is one of their fields",
            "`rows` names them",
        )
    line_bytes = record.how_read.line_bytes if record else LINE_BYTES
    inputs = None if found is None else _read_as(found, record, line_bytes)
    return ScoredRows(scores, record, rejects, inputs, run, column or SCORE_COLUMN, by)


def _score_column(sources: Sequence[Source], record: RunRecord | None) -> str | None:
    """Return the field of the scores in joined rows, or None if these are scores alone."""
    if record is not None:
        return record.join
    inputs = Inputs(sources, Reading(line_bytes=_ANY_LENGTH), KNOWN["alpaca"])
    first = (values_of(row) or {} for source in sources for row, _ in inputs.originals(source))
    names = {name for values in islice(first, FIRST_ROWS) for name in values}
    return SCORE_COLUMN if SCORE_COLUMN in names else None


def _read_as(sources: Sequence[Source], record: RunRecord | None, line_bytes: int) -> Inputs:
    """Open rows to be read as they were when they were scored."""
    if record is not None:
        how = record.how_read
        return Inputs(sources, Reading(system=how.system, line_bytes=line_bytes), how.shape)
    inputs = Inputs(sources, Reading(line_bytes=line_bytes))
    try:
        inputs.shape()
    except ShapeError as error:
        logger.warning("the texts of the rows are not shown, because %s", error)
        return Inputs(sources, Reading(line_bytes=line_bytes), KNOWN["alpaca"])
    return inputs


def _scores_alone(run: EarlierRun) -> Iterator[ScoredRow]:
    for number, raw in enumerate(lines_of(run), 1):
        line = decode_line(raw, run.name)
        yield ScoredRow(
            float(bytes(line.score)),
            text_of_id(bytes(line.id)),
            line.source or "",
            line.line or number,
            tokens=line.tokens,
            truncated=bool(line.truncated),
            group=line.source or "",
        )


def _rows_and_scores(run: EarlierRun, inputs: Inputs, by: str | None) -> Iterator[ScoredRow]:
    for row, item, line in rows_with_scores(run, inputs):
        group = item.source if by is None else _group(values_of(row), by)
        if line is None or not isinstance(item, Pair):
            yield ScoredRow(None, "", item.source, item.number, group=group)
            continue
        yield ScoredRow(
            float(bytes(line.score)),
            text_of_id(bytes(line.id)),
            item.source,
            item.number,
            item.question,
            item.answer,
            line.tokens,
            bool(line.truncated),
            group,
        )


def _joined_rows(inputs: Inputs, column: str, by: str | None) -> Iterator[ScoredRow]:
    for source in inputs.sources:
        for row, item in inputs.originals(source):
            values = values_of(row) or {}
            score = _number(values.get(column))
            texts = (item.question, item.answer) if isinstance(item, Pair) else ("", "")
            row_id = text_of_id(item.id) if isinstance(item, Pair) else ""
            group = item.source if by is None else _group(values, by)
            yield ScoredRow(score, row_id, item.source, item.number, *texts, group=group)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _group(values: Mapping[str, Any] | None, by: str) -> str:
    if values is None or by not in values:
        return NO_VALUE
    return str(values[by])

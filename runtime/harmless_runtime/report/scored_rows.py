"""Read scored rows: the scores of a run in step with its rows, or joined rows, or scores alone."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from harmless_runtime.choices import SCORE_COLUMN
from harmless_runtime.config import LINE_BYTES
from harmless_runtime.errors import InputError, ShapeError
from harmless_runtime.report.joined_rows import joined_rows
from harmless_runtime.report.row import ScoredRow, finite, group_of
from harmless_runtime.report.run_inputs import inputs_of
from harmless_runtime.rows.expand import find_sources
from harmless_runtime.rows.first_rows import FIRST_ROWS
from harmless_runtime.rows.inputs import Inputs
from harmless_runtime.rows.records import Pair
from harmless_runtime.rows.shapes import KNOWN, Reading
from harmless_runtime.rows.sources import Source
from harmless_runtime.scores.columns import values_of
from harmless_runtime.scores.earlier import (
    EarlierRun,
    check_finished,
    decode_line,
    files_beside,
    find_run,
    lines_of,
    rows_with_scores,
)
from harmless_runtime.scores.log import text_of_id
from harmless_runtime.scores.record import RunRecord, change_of, read_record

logger = logging.getLogger(__name__)

_ANY_LENGTH = 2**30


@dataclass(frozen=True)
class ScoredRows:
    """Rows that can be read again and again.

    Attributes:
        name: the output of the run, as it was named.
        record: what the run did, or None if its record is gone, or tells of another file.
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
            return joined_rows(self.inputs, self.column, self.by)
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
    check_finished(path)
    rejects, record_path = files_beside(path)
    record = read_record(record_path)
    sources = find_sources([scores], with_outputs=True)
    column = _score_column(sources, record)
    if column is not None:
        joined = _read_as(sources, record, _ANY_LENGTH)  # rows became longer by their scores
        known = _unchanged(record, path, sources)
        return ScoredRows(scores, known, rejects, joined, None, column, by)
    run = find_run(path)
    found = find_sources(rows) if rows else inputs_of(record, record_path.parent)
    if found is None and by is not None:
        raise InputError(
            f"the rows of {scores} are not where they were, and {by} is one of their fields",
            "`rows` names them",
        )
    for source in found or ():
        if not source.can_be_opened_again:
            raise InputError(
                f"{source.name} can be read only once, and a report looks at rows twice",
                "save them in a file first",
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


def _unchanged(
    record: RunRecord | None, joined: Path, sources: Sequence[Source]
) -> RunRecord | None:
    """Return the record of joined rows, unless they were changed since: people edit such files."""
    if record is None:
        return None
    if joined.is_dir():
        changes = [change_of(joined / facts.name, facts) for facts in record.files]
        written = {facts.name for facts in record.files}
        more = (f"{s.name} is not of the run" for s in sources if s.below not in written)
        changes.append(next(more, None))
    else:  # the rejects come before it, and it may have another name by now
        changes = [change_of(joined, record.files[-1])]
    change = next(filter(None, changes), None)
    if change is not None:
        logger.warning("nothing is said of the run, because %s", change)
        return None
    return record


def _read_as(sources: Sequence[Source], record: RunRecord | None, line_bytes: int) -> Inputs:
    """Open rows to be read as they were when they were scored."""
    if record is not None:
        how = record.how_read
        return Inputs(sources, how.reading(line_bytes), how.shape)
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
            finite(bytes(line.score)),
            text_of_id(bytes(line.id)),
            line.source or "",
            line.line or number,
            tokens=line.tokens,
            truncated=bool(line.truncated),
            group=line.source or "",
        )


def _rows_and_scores(run: EarlierRun, inputs: Inputs, by: str | None) -> Iterator[ScoredRow]:
    for row, item, line in rows_with_scores(run, inputs):
        group = item.source if by is None else group_of(values_of(row), by)
        if line is None or not isinstance(item, Pair):
            yield ScoredRow(None, "", item.source, item.number, group=group)
            continue
        yield ScoredRow(
            finite(bytes(line.score)),
            text_of_id(bytes(line.id)),
            item.source,
            item.number,
            item.question,
            item.answer,
            line.tokens,
            bool(line.truncated),
            group,
        )

"""Keep the rows whose scores are above or below a cut. Never are all rows in memory."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec

from harmless_runtime.choices import SCORE_COLUMN
from harmless_runtime.errors import InputError, OutputError
from harmless_runtime.rows.beside import RECORD_SUFFIX, rejects_name
from harmless_runtime.rows.expand import find_sources
from harmless_runtime.rows.inputs import Inputs
from harmless_runtime.rows.records import Fields, Line, Pair, Reject
from harmless_runtime.rows.shapes import KNOWN, Reading
from harmless_runtime.scores.columns import objects_of, values_of
from harmless_runtime.scores.cut import Cut, Wanted, choices, count_kept, find_cut
from harmless_runtime.scores.log import Results, ScoreLine, decode_score, text_of_id
from harmless_runtime.scores.record import RunRecord, read_record
from harmless_runtime.scores.rewrite import Change, write_rows
from harmless_runtime.scores.spool import Spool, spooled
from harmless_runtime.scores.targets import Target, form_of

# The names of the scores in joined rows, and in lines of scores.
_SCORE_COLUMNS = (SCORE_COLUMN, "score")


@dataclass(frozen=True)
class Selection:
    """Which rows to keep, and where.

    Attributes:
        rows: the names of the inputs.
        output: the file of rows that are kept. Its name says its form.
        wanted: which rows.
        scores: the output of the run that scored these rows, if the rows do not hold their scores.
        score_column: the field or column of the scores in the rows. None means the usual ones.
        overwrite: whether the output may replace a file.
    """

    rows: tuple[str, ...]
    output: Path
    wanted: Wanted
    scores: Path | None = None
    score_column: str | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class Selected:
    """What was kept.

    Attributes:
        rows: number of all rows.
        scored: number of rows that have a score.
        kept: number of rows that were kept.
        lowest: the lowest score of these, or None if no row was kept.
        highest: their highest score.
    """

    rows: int
    scored: int
    kept: int
    lowest: float | None
    highest: float | None


def select_rows(selection: Selection) -> Selected:
    """Write the rows that are wanted, as they are and in their order.

    Rows are read twice: for their scores, and to be written. A row without a score is never kept.

    Raises:
        InputError: the rows cannot be read, or hold no scores.
        OutputError: the output exists, or cannot be written, or the scores are of other rows.
        ConfigError: pyarrow is missing.
    """
    target = _check(selection)
    inputs = _open(selection, target)
    with ExitStack() as stack:
        spool = stack.enter_context(spooled(_scores(selection, inputs)))
        cut = find_cut(selection.wanted, spool)
        stack.callback(target.made.unlink, missing_ok=True)
        _write(target, inputs, cut, spool)
        target.made.replace(target.final)
        return Selected(spool.rows, spool.scored, *count_kept(cut, spool))


def _check(selection: Selection) -> Target:
    """Return the file to write, if it may be written."""
    output = selection.output
    if not output.name or output.is_dir():
        raise OutputError(f"{output} is a folder", "name a file")
    target = Target(output, form_of(output.name), find_sources(selection.rows))
    for source in target.sources:
        if not source.can_be_opened_again:
            raise InputError(
                f"{source.name} can be read only once, and rows are read twice to be selected",
                "save them in a file first",
            )
        if output.exists() and source.is_same_file(output):
            raise OutputError(f"{output} is an input", "choose another output")
    if output.exists() and not selection.overwrite:
        raise OutputError(
            f"{output} already exists", "`overwrite` replaces it; or choose another output"
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    return target


def _open(selection: Selection, target: Target) -> Inputs:
    """Open the rows, to be read as they were when they were scored."""
    record = _record(selection)
    if record is not None:
        how = record.how_read
        reading = Reading(system=how.system, line_bytes=how.line_bytes)
        return Inputs(target.sources, reading, how.shape)
    # Rows that hold their scores are not read as pairs of texts, so any shape will do.
    return Inputs(target.sources, Reading(), None if selection.scores else KNOWN["alpaca"])


def _record(selection: Selection) -> RunRecord | None:
    if selection.scores is None:
        return None
    return read_record(Path(f"{selection.scores}{RECORD_SUFFIX}"))


def _scores(selection: Selection, inputs: Inputs) -> Iterator[float | None]:
    if selection.scores is None:
        return _scores_in_rows(selection, inputs)
    return _scores_beside(selection.scores, _record(selection), inputs)


def _scores_in_rows(selection: Selection, inputs: Inputs) -> Iterator[float | None]:
    """Yield the scores that rows hold themselves."""
    first = next((row for source in inputs.sources for row in objects_of(source, inputs)), {})
    usual = [selection.score_column] if selection.score_column else _SCORE_COLUMNS
    column = next((name for name in usual if name in first), None)
    if column is None and first:
        raise InputError(
            f"the rows of {inputs.sources[0].name} have no field {' or '.join(usual)}",
            "`score_column` names the field of the scores; `scores` names a file of scores that "
            "belongs to the rows",
        )
    for source in inputs.sources:
        for row, item in inputs.originals(source):
            value = (values_of(row) or {}).get(column or "")
            try:
                yield None if value in (None, "") else float(value)
            except (TypeError, ValueError):
                raise InputError(
                    f"{source.name}, line {item.number}: {column} is {value!r:.80}, and not a score"
                ) from None


def _scores_beside(
    scores: Path, record: RunRecord | None, inputs: Inputs
) -> Iterator[float | None]:
    """Yield the scores of rows from the output of the run that scored them."""
    names = {}
    if record is not None:
        if len(record.inputs) != len(inputs.sources):
            raise OutputError(
                f"{scores} holds the scores of {len(record.inputs)} inputs, and "
                f"{len(inputs.sources)} are named"
            )
        names = {s.name: then.name for s, then in zip(inputs.sources, record.inputs, strict=True)}
    rejects = Path(rejects_name(str(scores)))
    with ExitStack() as stack:
        lines = stack.enter_context(rejects.open("rb")) if rejects.exists() else ()
        results = Results(_lines_of(scores), lines, names)
        for source in inputs.sources:
            for _, item in inputs.originals(source):
                line = results.line_of(item)
                yield None if line is None else float(bytes(_checked(line, item, scores).score))
        if record is not None:
            results.check_end(record.lines, record.digest)
        results.check_no_more()


def _lines_of(scores: Path) -> Iterator[bytes]:
    """Yield the lines of a file of scores, whatever its form."""
    inputs = Inputs(find_sources([str(scores)]), Reading(), KNOWN["alpaca"])
    for source in inputs.sources:
        for row, _ in inputs.originals(source):
            if isinstance(row, Line):
                yield row.raw
            elif isinstance(row, Fields) and {"id", "score"} <= row.values.keys():
                known = {"id": row.values["id"], "score": float(row.values["score"])}
                yield msgspec.json.encode(known)
            else:
                raise _no_scores(scores)


def _checked(line: bytes, item: Pair | Reject, scores: Path) -> ScoreLine:
    """Decode a line of scores, and compare its id with the row's."""
    try:
        scored = decode_score(line)
    except msgspec.DecodeError:
        raise _no_scores(scores) from None
    if isinstance(item, Pair) and text_of_id(bytes(scored.id)) != text_of_id(
        item.id.replace(b"\r", b" ")
    ):
        raise OutputError(
            f"{scores} holds the scores of other rows: {item.source}, line {item.number}, has the "
            f"id {item.id.decode()}, and its score that of {bytes(scored.id).decode()}"
        )
    return scored


def _no_scores(path: Path) -> InputError:
    return InputError(
        f"{path} is not a file of ids and scores",
        "name the output of `harmless score` for the rows",
    )


def _write(target: Target, inputs: Inputs, cut: Cut, spool: Spool) -> None:
    """Write the rows that are kept."""
    kept = choices(cut, spool)
    change = Change(lambda _: b"null" if next(kept) else None, None)
    write_rows(target, inputs, change)
    with target.made.open("rb") as file:
        os.fsync(file.fileno())

"""Keep the rows whose scores are above or below a cut. Never are all rows in memory."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from harmless_runtime.choices import SCORE_COLUMN
from harmless_runtime.errors import InputError, OutputError, ShapeError
from harmless_runtime.rows.beside import record_name
from harmless_runtime.rows.expand import find_sources
from harmless_runtime.rows.first_rows import FIRST_ROWS
from harmless_runtime.rows.inputs import Inputs
from harmless_runtime.rows.shapes import KNOWN, Reading
from harmless_runtime.rows.sources import Source, files_of, is_one_of
from harmless_runtime.scores.columns import objects_of, values_of
from harmless_runtime.scores.cut import Cut, Wanted, choices, count_kept, find_cut
from harmless_runtime.scores.earlier import EarlierRun, find_run, scores_of
from harmless_runtime.scores.log import score_in
from harmless_runtime.scores.record import read_record
from harmless_runtime.scores.rewrite import Change, write_rows
from harmless_runtime.scores.spool import Spool, spooled
from harmless_runtime.scores.targets import Target, form_of

# The names of the scores in joined rows, and in lines of scores.
_SCORE_COLUMNS = (SCORE_COLUMN, "score")
# A row that was scored may have become longer by its score.
_ANY_LENGTH = 2**30


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
        span: the lowest and the highest of all scores, or None if there are none.
    """

    rows: int
    scored: int
    kept: int
    lowest: float | None
    highest: float | None
    span: tuple[float, float] | None = None


def select_rows(selection: Selection) -> Selected:
    """Write the rows that are wanted, as they are and in their order.

    Rows are read twice: for their scores, and to be written. A row without a score is never kept.

    Raises:
        InputError: the rows cannot be read, or hold no scores.
        OutputError: the output exists, or cannot be written, or the scores are of other rows.
        ConfigError: pyarrow is missing.
    """
    run = None if selection.scores is None else find_run(selection.scores)
    # Rows that hold their scores are mostly the outputs of runs.
    sources = find_sources(selection.rows, with_outputs=run is None)
    _check(selection, run, sources)
    inputs = _open(run, sources)
    column = _score_column(selection, inputs) if run is None else None
    scores = _scores_in_rows(inputs, column) if run is None else scores_of(run, inputs)
    output = selection.output
    with ExitStack() as stack:
        spool = stack.enter_context(spooled(scores))
        cut = find_cut(selection.wanted, spool)
        # No other file has a name in a folder of its own.
        folder = tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.")
        place = Path(stack.enter_context(folder))
        target = Target(output, form_of(output.name), sources, place)
        _write(target, inputs, cut, spool, column)
        inputs.check_unchanged()
        _check_output(selection)  # it may have appeared by now
        _check_no_input(output, sources)
        # The output of a run may be replaced. Its record would then tell of another file.
        _record_of(output).unlink(missing_ok=True)
        target.made.replace(output)
        _, least, most = count_kept(Cut(), spool)
        span = None if least is None or most is None else (least, most)
        return Selected(spool.rows, spool.scored, *count_kept(cut, spool), span)


def _check(selection: Selection, run: EarlierRun | None, sources: tuple[Source, ...]) -> None:
    """Check that the rows can be read, and the output be written.

    Raises:
        InputError: the rows cannot be read twice.
        OutputError: the output exists, or what is read would be overwritten.
    """
    output = selection.output
    form_of(output.name)
    for source in sources:
        if not source.can_be_opened_again:
            raise InputError(
                f"{source.name} can be read only once, and rows are read twice to be selected",
                "save them in a file first",
            )
    _check_no_input(output, sources)
    for path in (*run.files, *run.beside) if run else ():
        if output.exists() and path.exists() and path.samefile(output):
            raise OutputError(f"{output} belongs to the scores", "choose another output")
    _check_output(selection)
    read_record(_record_of(output))  # what has the name of a record has to be one
    output.parent.mkdir(parents=True, exist_ok=True)


def _check_no_input(output: Path, sources: tuple[Source, ...]) -> None:
    """Raise OutputError if the output is one of the files of rows."""
    if is_one_of(output, files_of(sources)):
        raise OutputError(f"{output} is an input", "choose another output")


def _check_output(selection: Selection) -> None:
    """Raise OutputError if the output exists and may not be replaced."""
    output = selection.output
    if output.is_symlink() or (output.exists() and not output.is_file()):
        what = "a folder" if output.is_dir() else "not a regular file"
        raise OutputError(f"{output} is {what}", "choose another output")
    if output.exists() and not selection.overwrite:
        raise OutputError(
            f"{output} already exists", "`overwrite` replaces it; or choose another output"
        )


def _record_of(output: Path) -> Path:
    return output.with_name(record_name(output.name, is_folder=False))


def _open(run: EarlierRun | None, sources: tuple[Source, ...]) -> Inputs:
    """Open the rows, to be read as they were when they were scored."""
    if run is None:
        # Rows that hold their scores are not read as pairs of texts, so any shape will do.
        return Inputs(sources, Reading(line_bytes=_ANY_LENGTH), KNOWN["alpaca"])
    if run.record is None:
        inputs = Inputs(sources, Reading())
        try:
            inputs.shape()
        except ShapeError as error:
            raise InputError(
                f"{run.name} has no record beside it, which would say how the rows were read, and "
                f"{error}",
                f"put the record there: {record_name(run.name.name, is_folder=False)}",
            ) from None
        return inputs
    how = run.record.how_read
    return Inputs(sources, how.reading(), how.shape)


def _score_column(selection: Selection, inputs: Inputs) -> str | None:
    """Return the field of the rows that holds their scores, or None if there are no rows.

    Raises:
        InputError: the rows have no such field.
    """
    rows = (row for source in inputs.sources for row in objects_of(source, inputs))
    first = {name for row in islice(rows, FIRST_ROWS) for name in row}
    usual = [selection.score_column] if selection.score_column else _SCORE_COLUMNS
    column = next((name for name in usual if name in first), None)
    if column is None and first:
        raise InputError(
            f"the rows of {inputs.sources[0].name} have no field {' or '.join(usual)}",
            "`score_column` names the field of the scores; `scores` names a file of scores that "
            "belongs to the rows",
        )
    return column


def _scores_in_rows(inputs: Inputs, column: str | None) -> Iterator[float | None]:
    """Yield the scores that rows hold themselves."""
    for source in inputs.sources:
        for row, _ in inputs.originals(source):
            yield score_in((values_of(row) or {}).get(column or ""), row, column)


def _write(
    target: Target, inputs: Inputs, cut: Cut, spool: Spool, score_column: str | None
) -> None:
    """Write the rows that are kept."""
    kept = choices(cut, spool)
    # There are more rows than scores only if the rows have changed, which is reported at their end.
    change = Change(lambda _: b"null" if next(kept, False) else None, None, score_column)
    with inputs.blamed():
        write_rows(target, inputs, change)
    with target.made.open("rb") as file:
        os.fsync(file.fileno())

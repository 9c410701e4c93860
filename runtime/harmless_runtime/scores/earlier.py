"""Read the scores of an earlier run in step with the rows that it scored."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from harmless_runtime.choices import SCORE_COLUMN
from harmless_runtime.config import LINE_BYTES
from harmless_runtime.errors import InputError, OutputError
from harmless_runtime.rows.beside import record_name, rejects_name
from harmless_runtime.rows.expand import find_sources
from harmless_runtime.rows.forms import read_source
from harmless_runtime.rows.inputs import Inputs
from harmless_runtime.rows.records import Fields, Line, Pair, Reject
from harmless_runtime.rows.streams import Meter
from harmless_runtime.scores.columns import values_of
from harmless_runtime.scores.log import Results, ScoreLine, decode_score, text_of_id
from harmless_runtime.scores.record import Count, FileFacts, RunRecord, change_of, read_record

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EarlierRun:
    """What a run has left.

    Attributes:
        name: its output, a file or a folder, as it was named.
        record: what the run did, or None if its record is gone.
        files: the files of scores, in the order of the inputs.
        beside: the file of rejects and that of the record, which may not exist.
    """

    name: Path
    record: RunRecord | None
    files: tuple[Path, ...]
    beside: tuple[Path, Path]

    @property
    def rejects(self) -> Path:
        """The file of rejects."""
        return self.beside[0]


def files_beside(output: Path) -> tuple[Path, Path]:
    """Return the paths of an output's rejects and of its record, which may not exist."""
    is_folder = output.is_dir()
    folder = output if is_folder else output.parent
    return (
        folder / rejects_name(output.name, is_folder=is_folder),
        folder / record_name(output.name, is_folder=is_folder),
    )


def check_finished(output: Path) -> None:
    """Raise InputError if a run has begun to write an output, and did not finish it."""
    if not output.exists() and output.with_name(f"{output.name}.partial").exists():
        raise InputError(
            f"{output} is not there yet, because its run was not finished",
            "the same `harmless score` with `resume` finishes it",
        )


def find_run(output: Path) -> EarlierRun:
    """Find what a run has left, by the name of its output.

    Raises:
        InputError: there is no such output, or it holds rows that were joined with their scores.
        OutputError: it was changed since the run wrote it.
    """
    check_finished(output)
    is_folder = output.is_dir()
    beside = rejects, record_path = files_beside(output)
    record = read_record(record_path)
    if record is None:
        logger.warning(
            "%s has no record of its run beside it, so only the ids tell that its scores belong to "
            "these rows",
            output,
        )
        sources = find_sources([str(output)], with_outputs=True)
        found = tuple(Path(source.where) for source in sources)
        return EarlierRun(output, None, found, beside)
    if record.join is not None:
        raise _joined(output)
    if record.how_read.shape.rejected is not None:
        raise InputError(
            f"{output} holds the scores of preference pairs, two for each row",
            "name the output of `harmless score`",
        )
    # The rejects come first in a record. A single output may have another name by now.
    written = [file for file in record.files if not (is_folder and file.name == rejects.name)]
    if not is_folder:
        written = record.files[-1:]
        files: tuple[Path, ...] = (output,)
    else:
        files = tuple(output / file.name for file in written)
    for path, facts in zip(files, written, strict=True):
        _check_unchanged(path, facts)
    if len(written) < len(record.files):
        _check_unchanged(rejects, record.files[0])
    return EarlierRun(output, record, files, beside)


def _check_unchanged(path: Path, facts: FileFacts) -> None:
    change = change_of(path, facts)
    if change:
        raise OutputError(
            change,
            "score again with `overwrite`; or move the record of the run away, to use the scores "
            "as they are",
        )


def scores_of(run: EarlierRun, inputs: Inputs) -> Iterator[float | None]:
    """Yield the score of each row, or None if it was rejected.

    Raises:
        OutputError, InputError: as `rows_with_scores`.
    """
    for _, _, line in rows_with_scores(run, inputs):
        yield None if line is None else float(bytes(line.score))


def rows_with_scores(
    run: EarlierRun, inputs: Inputs
) -> Iterator[tuple[Line | Fields | Reject, Pair | Reject, ScoreLine | None]]:
    """Yield each row, what is made of it, and its line of scores, or None if it was rejected.

    Raises:
        OutputError: the scores are of other rows.
        InputError: the files hold no scores, or the rows cannot be read.
    """
    record = run.record
    names: Mapping[str, str] = {}
    if record is not None:
        if len(record.inputs) != len(inputs.sources):
            raise OutputError(
                f"{run.name} holds the scores of {len(record.inputs)} inputs, and "
                f"{len(inputs.sources)} are named",
                "name the inputs that the run had, in their order",
            )
        names = {s.name: then.name for s, then in zip(inputs.sources, record.inputs, strict=True)}
    with ExitStack() as stack:
        rejects = stack.enter_context(run.rejects.open("rb")) if run.rejects.exists() else ()
        results = Results(lines_of(run), rejects, names, str(run.rejects))
        for source in inputs.sources:
            for row, item in inputs.originals(source):
                line = results.line_of(item)
                yield row, item, None if line is None else _checked(line, item, run.name)
        if record is not None:
            results.check_end(record.lines, record.digest)
        results.check_no_more()


def lines_of(run: EarlierRun) -> Iterator[bytes]:
    """Yield lines of scores, whatever the form of their files."""
    for source in find_sources(map(str, run.files)):
        for row in read_source(source, Meter(), None, LINE_BYTES):
            if isinstance(row, Line):
                yield row.raw
            elif isinstance(row, Fields) and {"id", "score"} <= row.values.keys():
                yield _as_line(row, run.name)
            else:
                raise _no_scores(run.name, row)


class _Details(msgspec.Struct):
    """What `details` adds to a line of scores."""

    tokens: Count | None = None
    truncated: bool | None = None
    source: str | None = None
    line: Count | None = None


def _as_line(row: Fields, scores: Path) -> bytes:
    """Return the line of scores that a row of CSV or Parquet is."""
    details = _details(row.values)
    try:
        known = {"id": row.values["id"], "score": float(row.values["score"])}
        return msgspec.json.encode(known | details, enc_hook=str)
    except (TypeError, ValueError, OverflowError):  # UnicodeEncodeError is a ValueError
        raise _no_scores(scores, row) from None


def _details(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `details` adds, with numbers made of the texts of CSV, or nothing."""
    given = {name: value for name, value in values.items() if value != ""}
    try:
        return msgspec.structs.asdict(msgspec.convert(given, _Details, strict=False))
    except msgspec.ValidationError:
        return {}  # columns of other programs have these names


def decode_line(line: bytes, scores: Path) -> ScoreLine:
    """Decode a line of scores.

    Raises:
        InputError: it is none. The message names the file `scores`.
    """
    try:
        scored = decode_score(line)
        msgspec.json.decode(scored.score, type=float)
    except msgspec.DecodeError:  # a score that is no number, too
        raise _no_scores(scores, Line(str(scores), 1, line)) from None
    return scored


def _checked(line: bytes, item: Pair | Reject, scores: Path) -> ScoreLine:
    """Decode a line of scores, and compare its id with the row's."""
    scored = decode_line(line, scores)
    if isinstance(item, Pair) and text_of_id(bytes(scored.id)) != text_of_id(
        item.id.replace(b"\r", b" ")
    ):
        raise OutputError(
            f"{scores} holds the scores of other rows: {item.source}, line {item.number}, has the "
            f"id {item.id.decode()}, and its score that of {bytes(scored.id).decode()}"
        )
    return scored


def _no_scores(path: Path, row: Line | Fields | Reject) -> InputError:
    if SCORE_COLUMN in (values_of(row) or {}):
        return _joined(path)
    return InputError(
        f"{path} is not a file of ids and scores",
        "name an output of harmless score without --join",
    )


def _joined(path: Path) -> InputError:
    return InputError(
        f"{path} holds rows joined with their scores",
        f"select from it, and leave `scores` out: harmless select {path} …",
    )

"""Write the rows of inputs to another file: with their scores added, or only some of the rows."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from harmless_runtime.rows.inputs import Inputs
from harmless_runtime.rows.records import Line, Pair, Reject, Row
from harmless_runtime.rows.sources import Source
from harmless_runtime.scores.columns import (
    Kind,
    blocks,
    cells_of,
    kind_of,
    names_of,
    schema_of,
    size_of,
    values_of,
)
from harmless_runtime.scores.lines import CsvWriter, as_line, check_column, line_of, open_bytes
from harmless_runtime.scores.schemas import with_column, with_numbers
from harmless_runtime.scores.tables import ParquetWriter, open_parquet_writer
from harmless_runtime.scores.targets import Target
from harmless_runtime.scores.texts import Utf8, is_valid

_NULL = b"null"


@dataclass(frozen=True)
class Change:
    """What is done to rows on their way into another file.

    Attributes:
        score_of: called for each row in order. Returns the JSON text of its score, which may be
            `null`, or None to leave the row out.
        column: the field or column that the score is added as. None adds nothing.
        numbers: a column of CSV that holds numbers. JSON and tables get them as numbers.
    """

    score_of: Callable[[Pair | Reject], bytes | None]
    column: str | None
    numbers: str | None = None


def write_rows(target: Target, inputs: Inputs, change: Change) -> None:
    """Write the rows of a target's inputs, every other field as it was and in its place.

    A row that could not be read as one (a line that is not a JSON object, a line of CSV that has
    too few cells) is left out.

    Args:
        target: the file to write.
        inputs: how rows are read.
        change: what is done to them.

    Raises:
        OutputError: the rows have the field for the score already, or do not fit into one table.
        InputError, ConfigError: as `Inputs.rows`.
    """
    if target.form.kind == "JSON lines":
        with open_bytes(target.made, target.form) as file:
            utf8 = Utf8(target.final.name)
            for source in target.sources:
                file.writelines(_lines(inputs, source, change, utf8))
        return
    kind = kind_of(target.sources, inputs, target.final.name)
    if target.form.kind == "CSV":
        _write_csv(target, kind, inputs, change)
    else:
        _write_parquet(target, kind, inputs, change)


def _lines(inputs: Inputs, source: Source, change: Change, utf8: Utf8) -> Iterator[bytes]:
    for row, item in inputs.originals(source):
        score = change.score_of(item)
        if score is None:
            continue
        if isinstance(row, Line):
            line = line_of(row, change.column, score)
        else:
            values = values_of(row)
            where = f"{source.name}, row {item.number},"
            if values is not None:
                values = _with_number(values, change)
            line = None if values is None else as_line(values, change.column, score, where, utf8)
        if line is not None:
            yield line


def _write_csv(target: Target, kind: Kind, inputs: Inputs, change: Change) -> None:
    names = names_of(kind, target.sources, inputs)
    check_column(change.column, names, target.sources[0].name)
    header = names if change.column is None else [*names, change.column]
    with open_bytes(target.made, target.form) as file:
        writer = CsvWriter(file, target.form.delimiter, header)
        for source in target.sources:
            for row, values, score in _values(inputs, source, change):
                if isinstance(row, Line):
                    values = cells_of(row)
                if change.column is not None and score != _NULL:
                    values = {**values, change.column: msgspec.Raw(score)}
                writer.write(values)
        writer.close()


def _write_parquet(target: Target, kind: Kind, inputs: Inputs, change: Change) -> None:
    schema = schema_of(kind, target.sources, inputs, target.final.name)
    check_column(change.column, schema.names, target.sources[0].name)
    if change.column is not None:
        schema = with_column(schema, change.column)
    if kind == "cells" and change.numbers is not None:
        schema = with_numbers(schema, change.numbers)
    utf8 = Utf8(target.final.name)
    with open_parquet_writer(target.made, schema) as table:
        for source in target.sources:
            if kind == "table":
                _write_batches(inputs, source, change, table)
                continue
            for block in blocks(_for_table(kind, inputs, source, change, utf8)):
                table.write_rows(block)


def _for_table(
    kind: Kind, inputs: Inputs, source: Source, change: Change, utf8: Utf8
) -> Iterator[tuple[Mapping[str, Any], int]]:
    """Yield the rows of a JSON or CSV input as a table can hold them, each with its bytes."""
    for row, values, score in _values(inputs, source, change):
        # The texts of JSON are valid UTF-8 already.
        if kind == "cells" and not is_valid(values):
            values = utf8.row(values, source.name)
        values = _with_number(values, change)
        if change.column is not None:
            values = {**values, change.column: _number(score)}
        yield values, size_of(row)


def _with_number(values: Mapping[str, Any], change: Change) -> Mapping[str, Any]:
    """Return the fields of a row with a number where CSV has the text of one."""
    text = values.get(change.numbers or "")
    if change.numbers is None or not isinstance(text, str):
        return values
    return {**values, change.numbers: float(text) if text else None}


def _values(
    inputs: Inputs, source: Source, change: Change
) -> Iterator[tuple[Row, Mapping[str, Any], bytes]]:
    """Yield each row that has fields and is not left out, with its fields and its score."""
    for row, item in inputs.originals(source):
        score = change.score_of(item)
        values = None if score is None else values_of(row)
        if score is not None and values is not None:
            yield row, values, score


def _write_batches(inputs: Inputs, source: Source, change: Change, table: ParquetWriter) -> None:
    """Write the rows of a Parquet or Arrow file. Its columns are not made into Python objects."""
    import pyarrow as pa

    for batch, items in inputs.original_batches(source):
        scores = [change.score_of(item) for item in items]
        kept = [score is not None for score in scores]
        columns = batch.columns
        if change.column is not None:
            numbers = [None if score is None else _number(score) for score in scores]
            columns = [*columns, pa.array(numbers, pa.float32())]
        whole = pa.RecordBatch.from_arrays(_in_order(columns, batch, table), schema=table.schema)
        table.write_batch(whole if all(kept) else whole.filter(pa.array(kept)))


def _in_order(columns: list[Any], batch: Any, table: ParquetWriter) -> list[Any]:
    """Return the columns of a batch as the table has them, which several inputs may share."""
    names = batch.schema.names
    if names != table.schema.names[: len(names)]:
        places = [names.index(name) for name in table.schema.names[: len(names)]]
        columns = [*(columns[place] for place in places), *columns[len(names) :]]
    # A column that is all null in this input may have a type in another one.
    pairs = zip(columns, table.schema.types, strict=True)
    return [column if column.type == kind else column.cast(kind) for column, kind in pairs]


def _number(score: bytes) -> float | None:
    return None if score == _NULL else float(score)

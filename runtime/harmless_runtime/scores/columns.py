"""Find the columns of the table that rows of some inputs are written to."""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from harmless_runtime.config import LINE_BYTES
from harmless_runtime.errors import OutputError
from harmless_runtime.rows.csv_rows import header_of, read_header
from harmless_runtime.rows.forms import OBJECTS, TABLES, Form, find_form, open_batches
from harmless_runtime.rows.inputs import Inputs
from harmless_runtime.rows.records import Fields, Line, Reject
from harmless_runtime.rows.sources import Source
from harmless_runtime.rows.streams import Meter, open_stream
from harmless_runtime.scores.lines import decode_members
from harmless_runtime.scores.schemas import Block, find_schema, is_stored, text_schema

_BLOCK_ROWS = 1024
_BLOCK_BYTES = 16 * 2**20

# Objects have any fields, each row its own. Cells are texts. A table has typed columns.
Kind = Literal["objects", "cells", "table"]
_KINDS: dict[Form, Kind] = {
    **dict.fromkeys(OBJECTS, "objects"),
    "CSV": "cells",
    **dict.fromkeys(TABLES, "table"),
}


def kind_of(sources: Sequence[Source], inputs: Inputs, name: str) -> Kind:
    """Return what kind of rows some inputs have.

    Args:
        sources: the inputs.
        inputs: how rows are read.
        name: where the rows are to be written, for the error.

    Raises:
        OutputError: they have rows of different kinds, which have no columns in common.
    """
    columns = inputs.shape().roots
    first, *others = sources
    kind = _KINDS[find_form(first, columns)]
    for other in others:
        if _KINDS[find_form(other, columns)] != kind:
            raise OutputError(
                f"{first.name} and {other.name} are of different forms, and do not fit into the "
                f"columns of {name}",
                _APART,
            )
    return kind


def names_of(kind: Kind, sources: Sequence[Source], inputs: Inputs) -> list[str]:
    """Return the names of all columns, for CSV.

    Raises:
        OutputError: two inputs have different columns.
    """
    if kind == "objects":
        rows = (row for source in sources for row in objects_of(source, inputs))
        return list(dict.fromkeys(name for row in rows for name in row))
    if kind == "table":
        return list(_schema_of_files(sources).names)
    return _header_of_files(sources)


def schema_of(kind: Kind, sources: Sequence[Source], inputs: Inputs, name: str) -> Any:
    """Return the `pyarrow.Schema` for all rows.

    Raises:
        OutputError: two inputs have different columns, or a field has values of several kinds.
        ConfigError: pyarrow is missing.
    """
    if kind == "objects":
        return find_schema(lambda: blocks(r for s in sources for r in sized_of(s, inputs)), name)
    if kind == "table":
        schema = _schema_of_files(sources)
        unknown = next((field for field in schema if not is_stored(field.type)), None)
        if unknown is not None:
            raise OutputError(
                f"{sources[0].name} has the column {unknown.name} of type {unknown.type}, which "
                "Parquet does not have",
                "write the rows as .jsonl",
            )
        return schema
    return text_schema(_header_of_files(sources), name)


def objects_of(source: Source, inputs: Inputs) -> Generator[Mapping[str, Any], None, None]:
    """Yield the rows of an input that are JSON objects, or have columns."""
    for values, _ in sized_of(source, inputs):
        yield values


def sized_of(
    source: Source, inputs: Inputs
) -> Generator[tuple[Mapping[str, Any], int], None, None]:
    """Yield the rows of an input as `objects_of` does, each with its bytes."""
    for row, _ in inputs.originals(source):
        values = values_of(row)
        if values is not None:
            yield values, size_of(row)


def size_of(row: Line | Fields | Reject) -> int:
    """Return about how many bytes the texts of a row have."""
    if not isinstance(row, Fields):
        return len(row.raw)
    if not isinstance(row.values, Mapping):
        return 0
    return sum(len(value) for value in row.values.values() if isinstance(value, str))


def blocks(rows: Iterable[tuple[Mapping[str, Any], int]]) -> Iterator[Block]:
    """Gather rows into blocks: 1,024 of them, or fewer if these have 16 MB.

    Args:
        rows: each with its bytes.
    """
    block: Block = []
    size = 0
    for values, length in rows:
        block.append(values)
        size += length
        if len(block) == _BLOCK_ROWS or size >= _BLOCK_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block


def values_of(row: Line | Fields | Reject) -> Mapping[str, Any] | None:
    """Return a row's fields, or None if it could not be read as a row with fields."""
    if isinstance(row, Reject):
        return None
    if isinstance(row, Fields):
        return row.values if isinstance(row.values, Mapping) else None
    if row.length is not None:
        return None
    try:
        row.raw.decode()
        values = msgspec.json.decode(row.raw)
    except (msgspec.DecodeError, RecursionError):
        return _members_of(row.raw)
    except UnicodeDecodeError:
        return None
    return values if isinstance(values, Mapping) else None


def cells_of(row: Line) -> Mapping[str, Any]:
    """Return the fields of a row of JSON for CSV: numbers, lists and objects in their own bytes.

    A number may have more digits than a float holds.
    """
    # Line ends between the tokens of a value would make several lines of its cell.
    text = row.raw.replace(b"\n", b" ").replace(b"\r", b" ")
    members = decode_members(text)
    return {name: None if bytes(value) == b"null" else value for name, value in members.items()}


def _members_of(text: bytes) -> Mapping[str, Any] | None:
    """Decode the members of an object one by one.

    A value that Python cannot hold, such as 1e999, stays the text of its JSON. The row itself may
    have been scored, because such a value was not needed for that.
    """
    try:
        members = decode_members(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    return {name: _decoded(bytes(value)) for name, value in members.items()}


def _decoded(text: bytes) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text.decode()


def _schema_of_file(source: Source) -> Any:
    with open_batches(source) as table:
        return table.schema


def _header_of_file(source: Source) -> list[str]:
    with open_stream(source, Meter()) as stream:
        _, delimiter = header_of(stream.head)
        return read_header(source.name, stream.data, delimiter, LINE_BYTES)


def _schema_of_files(sources: Sequence[Source]) -> Any:
    """Return the schema for the rows of several tables, with the columns in the first one's order.

    A column that is all null in one of them, which has no type then, takes the type of the others.

    Raises:
        OutputError: they have other columns, or a column of several types.
    """
    import pyarrow as pa

    first, *others = sources
    schema = _schema_of_file(first)
    for other in others:
        found = _schema_of_file(other)
        _check_names(first, schema.names, other, found.names)
        for name in schema.names:
            one, two = schema.field(name).type, found.field(name).type
            if one != two and pa.null() not in (one, two):
                raise OutputError(
                    f"{first.name} and {other.name} have the column {name} in two types, {one} "
                    f"and {two}",
                    _APART,
                )
            if one == pa.null():
                place = schema.get_field_index(name)
                schema = schema.set(place, schema.field(name).with_type(two))
    return schema


def _header_of_files(sources: Sequence[Source]) -> list[str]:
    """Return the header of several CSV files, whose columns have to be the same.

    An empty file has none.

    Raises:
        OutputError: they are not.
    """
    headers = [(source, names) for source in sources if (names := _header_of_file(source))]
    if not headers:
        return []
    (first, header), *others = headers
    for other, names in others:
        _check_names(first, header, other, names)
    return header


def _check_names(first: Source, names: Sequence[str], other: Source, others: Sequence[str]) -> None:
    """Raise OutputError if two inputs have different columns. Their order does not matter."""
    alone = sorted(set(names) ^ set(others))
    if alone:
        raise OutputError(
            f"{first.name} and {other.name} have different columns: only one has {alone[0]!r}",
            _APART,
        )


_APART = (
    "write them as .jsonl; `harmless score` also writes each into a file of its own, with a folder "
    "as the output (a name that ends in /)"
)

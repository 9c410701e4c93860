"""Find the form of an input (JSON lines, a JSON array, CSV, Parquet, Arrow), and read its rows."""

import re
from codecs import BOM_UTF8
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from harmless_runtime.errors import InputError
from harmless_runtime.rows.arrow_rows import (
    Batches,
    open_arrow,
    open_parquet,
    read_arrow,
    read_parquet,
)
from harmless_runtime.rows.contents import check_contents, plain_name
from harmless_runtime.rows.csv_rows import header_of, read_csv
from harmless_runtime.rows.json_array import read_array
from harmless_runtime.rows.json_lines import read_lines
from harmless_runtime.rows.records import Fields, Line, Reject
from harmless_runtime.rows.shapes import KNOWN, PAIRS
from harmless_runtime.rows.sources import Source, Span
from harmless_runtime.rows.streams import Meter, Stream, errors_named, open_span, open_stream

Form = Literal["JSON lines", "a JSON array", "CSV", "Parquet", "Arrow"]
# The forms of JSON, in which each row has its own fields; and those that have typed columns.
OBJECTS: tuple[Form, ...] = ("JSON lines", "a JSON array")
TABLES: tuple[Form, ...] = ("Parquet", "Arrow")
# JSON of rows, which no header of CSV is like.
_OBJECTS = re.compile(rb'\[?\s*\{\s*"')


def read_source(
    source: Source, meter: Meter, columns: Sequence[str] | None, line_bytes: int
) -> Generator[Line | Fields | Reject, None, None]:
    """Yield the rows of an input or of a span of one, whatever form they have.

    Args:
        source: the input.
        meter: counts the bytes that were read.
        columns: the fields that are needed, or None for all. Some forms give the others as well.
        line_bytes: most bytes of a row. Longer ones are cut, or become rejects.

    Raises:
        InputError: the input cannot be read, or is damaged so that its next row is not known.
        ConfigError: the input needs a package that is missing.
    """
    start = meter.bytes
    if source.span is not None:
        yield from _read_span(source, source.span, meter, columns, line_bytes)
        return
    with open_stream(source, meter) as stream:
        form = form_of(stream, columns or ())
        if form == "JSON lines":
            yield from read_lines(source.name, stream.data, line_bytes, meter)
        elif form == "a JSON array":
            yield from read_array(source.name, stream.data, line_bytes)
        elif form == "CSV":
            _, delimiter = header_of(stream.head)
            yield from read_csv(source.name, stream.data, delimiter, line_bytes)
        elif form == "Arrow":
            yield from read_arrow(stream, meter, start, columns)
    if form == "Parquet":
        meter.bytes = start
        with errors_named(source):
            yield from read_parquet(source, meter, columns)


def _read_span(
    source: Source, span: Span, meter: Meter, columns: Sequence[str] | None, line_bytes: int
) -> Iterator[Line | Fields]:
    if span.unit == "row groups":
        with errors_named(source):
            yield from read_parquet(source, meter, columns)
        return
    with open_span(source, meter) as data:
        is_continued = source.is_continued
        yield from read_lines(source.name, data, line_bytes, meter, is_continued=is_continued)


def find_form(source: Source, columns: Collection[str]) -> Form:
    """Open an input, and tell its form.

    Args:
        source: an input that can be opened again.
        columns: as in `form_of`.

    Raises:
        InputError: it cannot be read, or has a form that cannot be read.
    """
    with open_stream(source, Meter()) as stream:
        return form_of(stream, columns)


@contextmanager
def open_batches(source: Source) -> Iterator[Batches]:
    """Open a Parquet or Arrow file to read all its columns.

    Raises:
        InputError, ConfigError: as `open_parquet`.
    """
    if find_form(source, ()) == "Parquet":
        with errors_named(source), open_parquet(source, None) as table:
            yield table
    else:
        with open_stream(source, Meter()) as stream, open_arrow(stream, None) as table:
            yield table


def form_of(stream: Stream, columns: Collection[str]) -> Form:
    """Tell the form of an input by its first bytes, and by its name where they do not tell.

    Args:
        stream: the open input.
        columns: names that the header of a CSV file may hold, besides the usual ones.

    Raises:
        InputError: the input has a form that cannot be read, or that its name does not say.
    """
    head, name = stream.head, stream.source.name
    check_contents(name, head, is_compressed=stream.is_compressed)
    if head.startswith(b"PAR1"):
        return "Parquet"
    if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return "Arrow"
    plain = plain_name(stream.source.where)
    text = head.removeprefix(BOM_UTF8).lstrip()
    if plain.endswith((".csv", ".tsv")) and not _OBJECTS.match(text):
        return "CSV"
    if text.startswith(b"["):
        return "a JSON array"
    if text.strip() == b"{" and plain.endswith(".json"):
        raise InputError(
            f"{name} holds JSON over several lines, and neither JSON lines nor an array",
            f"make a line of each object: jq -c . {name} | harmless score - …; for rows that are a "
            "list in one object: jq -c '.NAME[]'",
        )
    if text.startswith(b"{") or plain.endswith((".jsonl", ".ndjson", ".json")):
        return "JSON lines"
    return "CSV" if _names_columns(head, columns) else "JSON lines"


def _names_columns(head: bytes, columns: Collection[str]) -> bool:
    """Return whether a line is the header of a CSV file with names that rows have."""
    names, _ = header_of(head)
    usual = {path for shape in (*KNOWN.values(), *PAIRS) for path in shape.needed}
    return len(names) > 1 and not (usual | set(columns)).isdisjoint(names)

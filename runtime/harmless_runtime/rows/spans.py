"""Cut a large file into spans that can be read apart."""

from collections.abc import Collection
from dataclasses import replace
from itertools import pairwise
from typing import BinaryIO

from harmless_runtime.errors import InputError
from harmless_runtime.rows.arrow_rows import open_parquet
from harmless_runtime.rows.forms import form_of
from harmless_runtime.rows.sources import Source, Span
from harmless_runtime.rows.streams import Meter, open_stream

_CHUNK_BYTES = 2**16


def spans_of(source: Source, columns: Collection[str], span_bytes: int) -> list[Source]:
    """Cut a file of JSON lines or of Parquet into spans of about equal size.

    JSON lines are cut at ends of lines, and Parquet between row groups. Anything else stays whole:
    other forms, small files, and compressed ones.

    Args:
        source: the input. A span of one stays as it is.
        columns: names that the header of a CSV file may hold, besides the usual ones.
        span_bytes: most bytes of a span, up to an end of a line or of a row group.

    Returns:
        The spans in order, or the input alone.
    """
    if source.kind != "file" or source.span is not None or (source.size or 0) <= span_bytes:
        return [source]
    try:
        with open_stream(source, Meter()) as stream:
            form = None if stream.is_compressed else form_of(stream, columns)
        if form == "JSON lines":
            spans = _spans_of_lines(source, span_bytes)
        elif form == "Parquet":
            spans = _spans_of_groups(source, span_bytes)
        else:
            return [source]
    except (InputError, OSError):  # it is told when the input is read, after the rows before it
        return [source]
    return [replace(source, span=span) for span in spans] if len(spans) > 1 else [source]


def _spans_of_lines(source: Source, span_bytes: int) -> list[Span]:
    size = source.size or 0
    count = -(-size // span_bytes)
    with source.open() as file:
        ends = [_end_of_line(file, size * i // count) for i in range(1, count)]
    cuts = sorted({0, *(end for end in ends if end < size), size})
    return [Span("bytes", begin, end, end - begin) for begin, end in pairwise(cuts)]


def _end_of_line(file: BinaryIO, position: int) -> int:
    """Return where the line ends that holds the byte before a position."""
    file.seek(position - 1)
    end = position - 1
    while chunk := file.read(_CHUNK_BYTES):
        found = chunk.find(b"\n")
        if found >= 0:
            return end + found + 1
        end += len(chunk)
    return end


def _spans_of_groups(source: Source, span_bytes: int) -> list[Span]:
    with open_parquet(source, None) as table:
        sizes = table.group_bytes
    spans: list[Span] = []
    begin = size = 0
    for end, group in enumerate(sizes, 1):
        size += group
        if size >= span_bytes or end == len(sizes):
            spans.append(Span("row groups", begin, end, size))
            begin, size = end, 0
    return spans

"""Read rows of JSON lines."""

from codecs import BOM_UTF8
from collections.abc import Iterator
from io import BufferedReader

from harmless_runtime.rows.records import KEPT_BYTES, Line
from harmless_runtime.rows.streams import Meter

# The rest of a line that is too long is read in chunks of this size and dropped.
_CHUNK_BYTES = 2**20


def read_lines(
    name: str, file: BufferedReader, line_bytes: int, meter: Meter, *, is_continued: bool = False
) -> Iterator[Line]:
    """Yield the lines of an input, or of a span of one, without blank ones.

    Only a line feed ends a line. Other Unicode line separators stay in their strings.

    Args:
        name: name of the input.
        file: its bytes.
        line_bytes: the longest line that is kept whole. Memory stays bounded whatever comes in.
        meter: counts the lines.
        is_continued: whether the span is not the first one. If the meter has counted the lines
            before it, they are numbered on, and otherwise from 1.
    """
    if not is_continued:
        meter.lines = 0
    # A byte order mark is not part of a row: it begins a file, of which many were perhaps joined.
    while raw := file.readline(line_bytes + 1 + len(BOM_UTF8)):
        meter.lines += 1
        number = meter.lines
        raw = raw.removeprefix(BOM_UTF8)
        text = raw.removesuffix(b"\n")
        if len(text) > line_bytes:
            rest = _skip_line(file) if text is raw else 0
            yield Line(name, number, text[:KEPT_BYTES], len(text) + rest)
        elif text.strip(b" \t\r"):  # what JSON calls white space
            yield Line(name, number, text)


def _skip_line(file: BufferedReader) -> int:
    """Read to the end of a line; return the number of bytes before its line feed."""
    length = 0
    while chunk := file.readline(_CHUNK_BYTES):
        length += len(chunk)
        if chunk.endswith(b"\n"):
            return length - 1
    return length

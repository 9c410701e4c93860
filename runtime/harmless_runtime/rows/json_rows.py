"""Read rows of JSON: one on each line, or the elements of one array."""

from collections.abc import Iterator
from io import BufferedReader

import ijson

from harmless_runtime.errors import InputError, one_line
from harmless_runtime.rows.records import KEPT_BYTES, Fields, Line

# The rest of a line that is too long is read in chunks of this size and dropped.
_CHUNK_BYTES = 2**20
BOM_UTF8 = b"\xef\xbb\xbf"


def read_lines(name: str, file: BufferedReader, line_bytes: int) -> Iterator[Line]:
    """Yield the lines of an input without blank ones.

    Only a line feed ends a line. Other Unicode line separators stay in their strings.

    Args:
        name: name of the input.
        file: its bytes.
        line_bytes: the longest line that is kept whole. Memory stays bounded whatever comes in.
    """
    number = 0
    # A byte order mark is not part of the first line's text.
    while raw := file.readline(line_bytes + 1 + (0 if number else len(BOM_UTF8))):
        number += 1
        if number == 1:
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


def read_array(name: str, file: BufferedReader, line_bytes: int) -> Iterator[Fields]:
    """Yield the elements of a JSON array, which is never in memory as a whole.

    Args:
        name: name of the input.
        file: its bytes.
        line_bytes: the longest element. Memory stays bounded whatever comes in.

    Raises:
        InputError: the array is not valid JSON, or an element is too long. What comes after it
            cannot be told apart.
    """
    bounded = _Bounded(file, line_bytes)
    number = 0
    try:
        for values in ijson.items(bounded, "item", use_float=True):
            number += 1
            bounded.start_element()
            yield Fields(name, number, values)
    except _TooLongError:
        raise InputError(
            f"{name}: element {number + 1:,} of the array has more than {line_bytes:,} bytes",
            "raise `max_line_bytes`",
        ) from None
    except (ijson.JSONError, UnicodeDecodeError) as error:
        raise InputError(
            f"{name}: the JSON array is damaged after element {number:,}: {one_line(error)}",
            "mend it, or make lines of its whole elements",
        ) from error


class _TooLongError(Exception):
    """An element of an array has more bytes than is allowed."""


class _Bounded:
    """Reads a file for ijson, up to a number of bytes since the last element."""

    def __init__(self, file: BufferedReader, most: int) -> None:
        self._file = file
        self._most = max(most, _CHUNK_BYTES)
        self._is_start = True
        self._bytes = 0

    def start_element(self) -> None:
        self._bytes = 0

    def read(self, size: int) -> bytes:
        if size and self._bytes > self._most:
            raise _TooLongError
        # At most one read of the system: a pipe gives its rows as they come.
        data = self._file.read1(size)
        self._bytes += len(data)
        if size and self._is_start:
            self._is_start = False
            data = data.removeprefix(BOM_UTF8)
        return data

"""Read rows that are the elements of one JSON array, which is never in memory as a whole.

The array is only cut into its elements here. They are parsed like lines of JSON, so that a row
gives the same texts, the same id and the same reject in both forms. ijson was dropped for that: its
parser turns half of a surrogate pair into a question mark, stops at an integer of more than 64
bits, and needs memory that grows with the square of the nesting depth.
"""

import re
from collections.abc import Iterator
from io import BufferedReader

from harmless_runtime.errors import InputError
from harmless_runtime.rows.records import KEPT_BYTES, Line, Reject

_CHUNK_BYTES = 2**18
_BLANK = b" \t\r\n"
# The inside of a string, and what is neither a bracket nor a comma, with whole strings in it.
_INSIDE = rb'[^"\\]*(?:\\.[^"\\]*)*'
_INSIDE_STRING = re.compile(_INSIDE, re.DOTALL)
_BETWEEN = re.compile(rb'[^"\[\]{},]*(?:"%b"[^"\[\]{},]*)*' % _INSIDE, re.DOTALL)


def read_array(name: str, file: BufferedReader, line_bytes: int) -> Iterator[Line | Reject]:
    """Yield the elements of a JSON array. `Line.number` counts them from 1.

    An element that is empty is rejected.

    Args:
        name: name of the input.
        file: its bytes. The first one that is not blank is `[`.
        line_bytes: the longest element that is kept whole. Memory stays bounded whatever comes in.

    Raises:
        InputError: the array does not end, or something follows it.
    """
    number = length = 0
    text = bytearray()
    is_open = True
    for part, mark in _cut(file):
        part = part if length else part.lstrip(_BLANK)
        length += len(part)
        text += part[: max(0, line_bytes + 1 - len(text))]
        if not is_open and (length or mark):
            raise InputError(
                f"{name}: something follows the JSON array of {number:,} elements",
                "if every line is a row of its own, a row has to be an object, not an array",
            )
        if not mark:
            continue
        is_open = mark != b"]"
        # What comes before the array is dropped, and an empty array has no element.
        if mark == b"," or (mark == b"]" and (length or number)):
            number += 1
            yield _element(name, number, bytes(text), length, line_bytes)
        text, length = bytearray(), 0
    if is_open:
        raise InputError(f"{name}: the JSON array ends early, in element {number + 1:,}")


def _element(name: str, number: int, text: bytes, length: int, line_bytes: int) -> Line | Reject:
    if not length:
        reason = "not valid JSON: the element is empty, because the array has a comma too many"
        return Reject(name, number, reason, b"")
    if length == len(text):  # nothing was dropped
        text = text.rstrip(_BLANK)
        length = len(text)
    if length > line_bytes:
        return Line(name, number, text[:KEPT_BYTES], length)
    return Line(name, number, text)


def _cut(file: BufferedReader) -> Iterator[tuple[bytes, bytes]]:
    """Cut an array at its own brackets and commas.

    Yields:
        A part, and the byte that ends it: `[`, `,` or `]`. That byte is empty where the part ends
        only because no more was read yet.
    """
    depth = 0
    in_string = False
    tail = b""
    # At most one read of the system: a pipe gives its rows as they come.
    while read := file.read1(_CHUNK_BYTES):
        data = tail + read
        start = at = 0
        while True:
            pattern = _INSIDE_STRING if in_string else _BETWEEN
            at = pattern.match(data, at).end()  # type: ignore[union-attr]  # it matches nothing too
            mark = data[at : at + 1]
            # A string stops at a backslash only if the byte that it escapes is not read yet.
            if mark in (b"", b"\\"):
                break
            at += 1
            if mark == b'"':
                in_string = not in_string
                continue
            depth += (mark in b"[{") - (mark in b"]}")
            if depth == (mark != b"]") and mark in b"[,]":
                yield data[start : at - 1], mark
                start = at
        yield data[start:at], b""
        tail = data[at:]

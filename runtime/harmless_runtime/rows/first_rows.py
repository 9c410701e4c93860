"""Take the rows that the shape of all rows is decided from."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import msgspec

from harmless_runtime.rows.records import Fields, Line, Row

# Fewer, if they have this many bytes before.
FIRST_ROWS = 100
_FIRST_BYTES = 16 * 2**20


def beginning(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield the first rows, as many as the shape is decided from."""
    size = 0
    for row in islice(rows, FIRST_ROWS):
        yield row
        size += len(str(row.values)) if isinstance(row, Fields) else len(row.raw)
        if size >= _FIRST_BYTES:
            return


def values_in(row: Row) -> Any:
    """Return the values of a row, or None if they cannot be told.

    If one is a number that Python does not have, each value is its JSON text.
    """
    if isinstance(row, Fields):
        return row.values
    if isinstance(row, Line):
        try:
            return msgspec.json.decode(row.raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return fields_in(row.raw)
    return None


def fields_in(raw: bytes) -> dict[str, msgspec.Raw] | None:
    """Return the fields of a row in JSON, each with the text of its value, or None."""
    try:
        return msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None

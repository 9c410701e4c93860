"""Define what a row is, from the input to the two texts that are scored.

A `Line` or `Fields` is what an input gives. It becomes a `Pair`, or a `Reject` that says why not.
"""

from typing import Any

import msgspec

from harmless_runtime.choices import Side

NO_ID = b'""'
# A row that is too long is cut to this many bytes.
KEPT_BYTES = 1000


class Line(msgspec.Struct, frozen=True, gc=False):
    """The JSON text of a row: a line without its line feed, or an element of an array.

    `number` counts the lines or elements of `source` from 1. If the row is longer than allowed,
    `raw` is only its beginning, and `length` is the number of bytes of the whole. Otherwise
    `length` is None.
    """

    source: str
    number: int
    raw: bytes
    length: int | None = None


class Fields(msgspec.Struct, frozen=True):
    """A row that a library has parsed already. `values` should be a mapping of names to values.

    `number` counts from 1: the lines of a CSV file, or the rows of any other one. `is_blank` says
    that a row of CSV has nothing in any cell, as spreadsheets leave them at their end.
    """

    source: str
    number: int
    values: Any
    is_blank: bool = False


class Pair(msgspec.Struct, frozen=True, gc=False):
    """A row that can be scored: Q and A, as `rows.prompt` and `rows.conversations` write them.

    Attributes:
        source: name of the input.
        number: as in `Line` and `Fields`.
        id: JSON text of the row's id. A row without an id has `""`, an empty string in JSON.
        question: the whole dialogue up to the last answer.
        answer: the response that is scored.
        dropped_system: whether a system text was left out.
        has_turns: whether the request is a text that has turns of its own, or a history.
        lost_end: whether tokens that end a text were taken off the answer.
        mark: a mark of a chat template that is scored as words, if there is one.
        side: which text of a preference pair it is, if it is one.
    """

    source: str
    number: int
    id: bytes
    question: str
    answer: str
    dropped_system: bool = False
    has_turns: bool = False
    lost_end: bool = False
    mark: str | None = None
    side: Side | None = None

    @property
    def size(self) -> int:
        """UTF-8 bytes of both texts."""
        return _bytes_in(self.question) + _bytes_in(self.answer)


class Reject(msgspec.Struct, frozen=True, gc=False):
    """A row that gets no score, and the reason. `raw` and `length` are as in `Line`."""

    source: str
    number: int
    reason: str
    raw: bytes
    length: int | None = None

    @property
    def size(self) -> int:
        """Bytes of `raw`."""
        return len(self.raw)


# What an input gives, or why its next row is none.
Row = Line | Fields | Reject


def _bytes_in(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())

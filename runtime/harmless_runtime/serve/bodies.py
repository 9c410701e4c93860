"""Cut the body of a request into its rows, without a look into them.

The decoder of JSON does it in no time, and refuses the whole if a single row is wrong. The body is
then cut as a file with a JSON array is, so that each other row has its score.
"""

import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from io import BufferedReader, BytesIO
from itertools import islice
from typing import Any

import msgspec

from harmless_runtime.errors import InputError
from harmless_runtime.rows.json_array import read_array
from harmless_runtime.rows.parsing import not_json

# Raises an error if nobody waits for the rows any more.
Watch = Callable[[], None]
# The members of an envelope, which holds rows.
ENVELOPE = ("rows", "on_error")
# A body with more commas is not decoded into its elements at once, each of which would take memory.
_MANY = 100_000
_BLANK = b" \t\r\n"
_MEMBER = re.compile(rb'\s*"((?:[^"\\]|\\.)*)"\s*:\s*', re.DOTALL)


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """The members in ENVELOPE. An object that has others is a row."""

    rows: msgspec.Raw = msgspec.Raw(b"")
    on_error: msgspec.Raw = msgspec.Raw(b"")


class _Object(msgspec.Struct):
    """An object with any members."""


class BadBodyError(ValueError):
    """A body is no request. The message is the reason."""


def stripped(body: bytes) -> bytes:
    """Return a body without a byte order mark, and without white space around it.

    Raises:
        BadBodyError: nothing is left.
    """
    text = body.removeprefix(BOM_UTF8).strip(_BLANK)
    if not text:
        raise BadBodyError("the body is empty, and has to be JSON")
    return text


def rows_of(text: bytes, watch: Watch, most: int) -> Sequence[msgspec.Raw | bytes]:
    """Return the elements of a JSON array, or the first ones if there are more than `most`.

    Raises:
        BadBodyError: the array does not end, something follows it, or it has a comma too many.
    """
    if text.count(b",") <= _MANY:
        with suppress(msgspec.DecodeError, RecursionError):
            return msgspec.json.decode(text, type=list[msgspec.Raw])
    rows = list(islice(_elements(text, watch), most + 1))
    if b"" in rows:
        number = rows.index(b"")
        raise BadBodyError(
            f"there is nothing where row {number} should be, as after a comma too many"
        )
    return rows


def envelope_of(text: bytes, watch: Watch) -> dict[str, bytes]:
    """Return the members of an envelope, or nothing if a JSON object is a row.

    Raises:
        BadBodyError: it is no object.
    """
    try:
        with suppress(msgspec.ValidationError):
            envelope = msgspec.json.decode(text, type=_Envelope)
            return {name: raw for name in ENVELOPE if (raw := bytes(getattr(envelope, name)))}
        msgspec.json.decode(text, type=_Object)
        return {}
    except msgspec.ValidationError:
        raise BadBodyError('the body has to be a row, a list of rows, or {"rows": [...]}') from None
    except msgspec.DecodeError as error:
        reason = not_json(error, text)
    except RecursionError:
        reason = "the JSON is nested too deeply"
    if not (text.startswith(b"{") and text.endswith(b"}")):
        raise BadBodyError(_utf8_fault(text) or reason)
    found = {}
    for each in _elements(b"[%b]" % text[1:-1], watch):
        head = _MEMBER.match(each)
        if not head:
            raise BadBodyError(reason)
        name = head[1].decode("utf-8", "replace")
        found[name if name in ENVELOPE else ""] = each[head.end() :].rstrip(_BLANK)
    return {} if "" in found else found


def _elements(text: bytes, watch: Watch) -> Iterator[bytes]:
    file: BufferedReader = BufferedReader(_Watched(text, watch))
    try:
        for line in read_array("the body", file, len(text)):
            yield line.raw
    except InputError as error:
        raise BadBodyError(f"not valid JSON: {error}") from None


def _utf8_fault(text: bytes) -> str | None:
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return f"invalid UTF-8 at byte {error.start}"
    return None


class _Watched(BytesIO):
    """A text that is read only as long as somebody waits for it."""

    def __init__(self, text: bytes, watch: Watch) -> None:
        super().__init__(text)
        self._watch = watch

    def readinto(self, buffer: Any) -> int:
        """Read some of the text, or raise the error of `watch`."""
        self._watch()
        return super().readinto(buffer)

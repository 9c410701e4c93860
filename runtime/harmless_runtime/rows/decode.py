"""Decode texts and turns that are written in other forms: as bytes, as JSON, as lists of fields."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from harmless_runtime.rows.conversations import BadRowError, turns_in

# How Python writes a list of mappings, or one of them: not as JSON, because of its quotes.
_REPR = re.compile(r"\s*(\[\s*)?\{\s*'")
_REPR_OF_TURNS = re.compile(r"\[\s*\{'(role|from|content|value)': ")
_PYTHON = "Python's repr of turns is not read: json.dumps writes them as JSON"


class NotJson:
    """A text that is not JSON, though its column says so. `str` gives the text."""

    __slots__ = ("reason", "text")

    def __init__(self, text: str, reason: str) -> None:
        self.text = text
        self.reason = reason

    def __str__(self) -> str:
        return self.text


def decode_json(text: str) -> Any:
    """Return the value that a text of a JSON column stands for, or a `NotJson`."""
    try:
        return msgspec.json.decode(text)
    except UnicodeEncodeError:  # bytes that are not UTF-8 were read as surrogates
        return NotJson(text, "a text is not valid UTF-8")
    except RecursionError:
        return NotJson(text, "a value of a JSON column is nested too deeply")
    except msgspec.DecodeError as error:
        return NotJson(text, f"a value of a JSON column is not valid JSON: {error}")


def decode_bytes(value: bytes) -> str | bytes:
    """Return the text that bytes are in UTF-8, or the bytes if they are none."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def text_of(value: Any) -> Any:
    """Return the text that bytes stand for, and any other value as it is.

    Raises:
        BadRowError: the bytes are not UTF-8, or the value is a `NotJson`.
    """
    if isinstance(value, NotJson):
        raise BadRowError(value.reason)
    if not isinstance(value, bytes | bytearray):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise BadRowError("a text is not valid UTF-8") from None


def text_or_turns(text: str) -> Any:
    """Return the turns whose JSON a text is, as `turns_of` does, or the text if it is none.

    Raises:
        BadRowError: as `turns_of`, or the text is what Python prints of turns.
    """
    if _REPR_OF_TURNS.match(text):
        raise BadRowError(_PYTHON)
    turns = turns_in(text)
    return text if turns is None else turns_of(turns)


def turns_of(value: Any) -> Any:
    """Return a list of turns with the fields of `Turn`, from any form that libraries give it.

    A text is the JSON of the turns or of a turn. A turn alone is a list of one. An object of lists
    stands for a list of objects, as `datasets` has it, and a list of pairs for an object, as
    Arrow's maps are read. What is none of these is returned as it is.

    Raises:
        BadRowError: a text is not JSON, bytes are not UTF-8, or lists have different lengths.
        RecursionError: the value is nested too deeply.
    """
    value = _listed(_decoded(_plain(value)))
    if isinstance(value, dict) and {"role", "from"} & value.keys():
        value = [value]
    return [_turn(turn) for turn in value] if isinstance(value, list) else value


def _turn(turn: Any) -> Any:
    turn = _decoded(turn)
    if isinstance(turn, dict) and "content" in turn:
        return {**turn, "content": _listed(turn["content"])}
    return turn


def _decoded(value: Any) -> Any:
    """Return the list or the object whose JSON a text is, and any other value as it is."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError as error:
        if _REPR.match(value):
            raise BadRowError(_PYTHON) from None
        raise BadRowError(f"the turns are a text that is not JSON: {error}") from None


def _listed(value: Any) -> Any:
    """Return the objects that an object of lists stands for, and any other value as it is."""
    if not isinstance(value, dict):
        return value
    columns = {name: part for name, part in value.items() if part is not None}
    if not columns or not all(isinstance(column, list) for column in columns.values()):
        return value
    if len(set(map(len, columns.values()))) > 1:
        told = ", ".join(f"{name} {len(column)}" for name, column in columns.items())
        raise BadRowError(f"the lists of a conversation have different lengths: {told}")
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _plain(value: Any) -> Any:
    """Return a value with texts for bytes and objects for lists of pairs, to any depth."""
    value = text_of(value)
    if isinstance(value, Mapping):
        return {text_of(name): _plain(part) for name, part in value.items()}
    if not isinstance(value, list | tuple):
        return value
    if value and all(map(_is_pair, value)):
        return {text_of(name): _plain(part) for name, part in value}
    return [_plain(part) for part in value]


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and isinstance(value[0], str | bytes)

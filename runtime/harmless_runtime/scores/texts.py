"""Write values of rows as texts, also those that a form of output cannot hold as they are."""

import json
import logging
from collections.abc import Mapping
from typing import Any

import msgspec

logger = logging.getLogger(__name__)


def as_text(value: Any) -> str:
    """Return a value as the text of a cell.

    A text is returned as it is, and so is what JSON writes as a text, such as a date. NaN and the
    infinities, which JSON does not have, become `nan` and `inf`. The rest becomes JSON.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return msgspec.json.encode(value).decode() if value - value == 0 else str(value)
    try:
        text = msgspec.json.encode(value, enc_hook=str).decode()
    except UnicodeEncodeError:  # a text in it has bytes that are not UTF-8
        return json.dumps(value, ensure_ascii=False, default=str)
    return msgspec.json.decode(text, type=str) if text.startswith('"') else text


class Utf8:
    r"""Makes texts valid UTF-8, for outputs that can hold nothing else. Bytes become `\xNN`.

    Args:
        name: of the output, for the warning that tells of the first row.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._told = False

    def row(self, values: Mapping[str, Any], where: str) -> Mapping[str, Any]:
        """Return the fields of a row with valid texts. `where` says which row it is."""
        if not self._told:
            self._told = True
            logger.warning(
                r"%s has bytes that are not UTF-8, which %s cannot hold. They are written as \xNN, "
                "in this row and in any other",
                where,
                self._name,
            )
        fixed: Mapping[str, Any] = _valid(values)
        return fixed


def valid_name(name: str) -> str:
    """Return the name of a column with its bytes that are not UTF-8 as `Utf8` writes them."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_valid(values: Mapping[str, str]) -> bool:
    """Return whether all names and texts of a row of CSV are valid UTF-8."""
    try:
        "".join([*values.keys(), *values.values()]).encode()
    except UnicodeEncodeError:
        return False
    return True


def _valid(value: Any) -> Any:
    if isinstance(value, str):
        return valid_name(value)
    if isinstance(value, Mapping):
        return {_valid(name): _valid(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_valid(part) for part in value]
    return value

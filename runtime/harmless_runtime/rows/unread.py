"""Define rows that cannot be scored, and how a hint writes what to do about them."""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from harmless_runtime.errors import ConfigError
from harmless_runtime.rows.parsing import RowParser
from harmless_runtime.rows.records import Fields, Pair
from harmless_runtime.rows.shapes import Reading, check_columns, nameable, recognise

# What rows are that a program can change: lines of JSON, other files, or values in memory.
Form = Literal["json", "table", "memory"]

_TRIED_ROWS = 20


@dataclass(frozen=True)
class Unread:
    """Rows that cannot be scored.

    Attributes:
        rows: the first ones, of which those that are not mappings are passed over.
        reason: the commonest.
        reading: how they were to be read.
        form: what they are.
    """

    rows: Sequence[Any]
    reason: str
    reading: Reading
    form: Form
    found: list[Mapping[str, Any]] = field(init=False)

    def __post_init__(self) -> None:
        found = [row for row in self.rows if isinstance(row, Mapping) and row]
        object.__setattr__(self, "found", found)

    @property
    def first(self) -> Mapping[str, Any]:
        """The first row that has fields."""
        return self.found[0]

    def has(self, *names: str) -> bool:
        """Return whether the first row has all of some fields."""
        return all(name in self.first for name in names)

    def reads(self, columns: Mapping[str, str], rows: Sequence[Any] | None = None) -> int:
        """Return how many of some rows, or of the first of these, can be scored with columns."""
        rows = (self.found if rows is None else rows)[:_TRIED_ROWS]
        reading = replace(self.reading, format=None, columns=columns)
        in_files = self.form != "memory"
        try:
            check_columns(reading)
            shape = reading.named_shape or next(iter(recognise(rows, reading)), None)
            sides = shape.sides if shape else []
            parsers = [RowParser(side, reading, in_files=in_files) for side in sides]
        except ConfigError:
            return 0
        items = (Fields("", number, row) for number, row in enumerate(rows))
        return sum(
            bool(parsers) and all(isinstance(parse(item), Pair) for parse in parsers)
            for item in items
        )

    def changed(self, program: str, words: str) -> str:
        """Return how to score rows that jq has changed; or in words, if they are no JSON."""
        if self.form != "json":
            return words
        command = "eval" if self.reading.pairs else "score"
        return f"{words}: jq -c {shlex.quote(program)} FILE | harmless {command} - …"


def jq(path: str) -> str:
    """Return the path of a field in jq."""
    return "".join(
        f"[{part}]" if part.isdecimal() else f".{part}" if re.fullmatch(r"[A-Za-z_]\w*", part, re.A)
        else f".{json.dumps(part)}"
        for part in path.split(".")
    )  # fmt: skip


def written(columns: Mapping[str, str]) -> str:
    """Return columns as they are typed."""
    return shlex.quote(",".join(f"{target}={path}" for target, path in columns.items()))


def can_name(unread: Unread) -> str:
    return f"(it can name {', '.join(nameable(unread.reading))})"

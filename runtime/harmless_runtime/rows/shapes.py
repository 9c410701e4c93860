"""Say which fields of a row hold its texts, and recognise that from the first rows."""

import difflib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from harmless_runtime.choices import FormatName, SystemChoice
from harmless_runtime.config import LINE_BYTES, ScorerConfig
from harmless_runtime.errors import ConfigError, ShapeError

logger = logging.getLogger(__name__)

# What msgspec does not take in the name of a field.
_NOT_IN_PATHS = re.compile('["\\\\\x00-\x1f\ud800-\udfff]')
# What `columns` may name.
TARGETS = ("instruction", "input", "output", "messages", "id")


@dataclass(frozen=True)
class Shape:
    """The path of each field that matters: a name, or names joined by dots, such as `data.0.text`.

    A field whose name has dots itself is meant by the same path, and comes first.

    Either `messages` is named, a list of turns; or `output`, and the `instruction` before it. With
    `output` alone, that field holds a whole dialogue. `input` and `id` may be missing in a row.
    """

    name: str
    instruction: str | None = None
    input: str | None = None
    output: str | None = None
    messages: str | None = None
    id: str = "id"

    @property
    def needed(self) -> list[str]:
        """The paths that a row has to have."""
        return [path for path in (self.messages, self.instruction, self.output) if path]

    @property
    def paths(self) -> dict[str, str]:
        """The paths of all fields, by what they are for."""
        return {target: path for target in TARGETS if (path := getattr(self, target))}

    @property
    def roots(self) -> list[str]:
        """The fields of the row that the paths may begin with: the columns that have to be read."""
        paths = self.paths.values()
        return list(dict.fromkeys(name for path in paths for name in (path.split(".")[0], path)))

    def fits(self, row: Mapping[str, Any]) -> bool:
        """Return whether a row has the fields that it has to have."""
        return all(path in row or path.split(".")[0] in row for path in self.needed)

    def __str__(self) -> str:
        paths = ", ".join(
            path if path == target else f"{target}={path}" for target, path in self.paths.items()
        )
        return f"{self.name} ({paths})"


KNOWN: dict[FormatName, Shape] = {
    "alpaca": Shape("alpaca", "instruction", "input", "output"),
    "prompt-response": Shape("prompt-response", "prompt", output="response"),
    "prompt-completion": Shape("prompt-completion", "prompt", output="completion"),
    "question-answer": Shape("question-answer", "question", output="answer"),
    "messages": Shape("messages", messages="messages"),
    "sharegpt": Shape("sharegpt", messages="conversations"),
}
# Names that fields often have, for a hint. The first that a row has is taken.
_USUAL = {
    "instruction": ("instruction", "prompt", "question", "query", "request", "user", "input"),
    "output": ("output", "response", "completion", "answer", "reply", "assistant", "chosen"),
}


@dataclass(frozen=True)
class Reading:
    """How the rows of an input are to be read.

    Attributes:
        format: the name of a known shape. None means that the shape is recognised.
        columns: paths by target, which replace those of the shape. See `Shape`.
        system: what becomes of the system texts of conversations.
        line_bytes: most bytes of a line, or of both texts of a row. A longer one is rejected.
    """

    format: FormatName | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    system: SystemChoice = "drop"
    line_bytes: int = LINE_BYTES

    @property
    def named_shape(self) -> Shape | None:
        """The shape, if the options name it wholly, so that nothing has to be recognised."""
        if self.format is not None:
            return replace(KNOWN[self.format], **self.columns)
        shape = Shape("columns", **self.columns)
        if shape.messages or (shape.instruction and shape.output):
            return shape
        return None


def reading_of(config: ScorerConfig) -> Reading:
    """Return how a configuration wants rows to be read."""
    return Reading(config.format, config.columns, config.system, config.max_line_bytes)


def check_columns(columns: Mapping[str, str]) -> None:
    """Raise ConfigError if `columns` names what cannot be named, or contradicts itself."""
    for target, path in columns.items():
        if target not in TARGETS:
            near = difflib.get_close_matches(target, TARGETS, 1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(
                f"columns names {target!r}, and can name only {', '.join(TARGETS)}{meant}"
            )
        if not path or not all(path.split(".")):
            raise ConfigError(f"columns gives {target} the path {path!r}, which has an empty name")
        if _NOT_IN_PATHS.search(path):
            raise ConfigError(
                f"columns gives {target} the path {path!r}, and no path may have quotes, "
                "backslashes, control characters or bytes that are not UTF-8",
                "give the field another name in the rows",
            )
    if "messages" in columns and set(columns) & {"instruction", "input", "output"}:
        raise ConfigError(
            "columns names messages and single texts, and a row is read as one or the other"
        )


def check_distinct(shape: Shape) -> None:
    """Raise ConfigError if a shape has two texts in the same field."""
    targets: dict[str, str] = {}
    for target, path in shape.paths.items():
        if path in targets:
            raise ConfigError(
                f"the field {path} is named for {targets[path]} and for {target}",
                "`columns` names another field for one of them",
            )
        targets[path] = target


def check_fields(rows: Sequence[Any], where: str, named: Shape, columns: Mapping[str, str]) -> None:
    """Check that rows have the fields that the options name, which may be misspelled.

    Args:
        rows: the first rows, of which those that are not mappings are passed over.
        where: name of the input.
        named: the shape that the options name, or as much of it.
        columns: the fields that are named by hand. A warning tells if no row has one of these that
            rows may leave out.

    Raises:
        ShapeError: no row has a field that every row has to have.
    """
    names = list(dict.fromkeys(name for row in rows if isinstance(row, Mapping) for name in row))
    if not names:
        return
    for target, path in named.paths.items():
        if path in names or path.split(".")[0] in names:
            continue
        near = difflib.get_close_matches(path, names, 1)
        meant = f"; did you mean {near[0]}?" if near else ""
        missing = f"none of the first rows of {where} has the field {path}, named for {target}"
        if path in named.needed:
            raise ShapeError(f"{missing}{meant}. {_fields(where, names)}", _hint(names, rows))
        if target in columns:
            logger.warning("%s%s. %s", missing, meant, _fields(where, names))


def _fields(where: str, names: Sequence[Any]) -> str:
    shown = ", ".join(map(str, names[:12])) + (", …" if len(names) > 12 else "")
    return f"The fields of {where} are: {shown}"


def recognise(rows: Sequence[Any], columns: Mapping[str, str]) -> list[Shape]:
    """Return the shapes that fit at least one of some rows: those that fit most rows first.

    Args:
        rows: parsed rows, of which those that are not mappings are passed over.
        columns: paths that replace those of each shape.
    """
    candidates = []
    for shape in KNOWN.values():
        if shape.messages and set(columns) & {"instruction", "input", "output"}:
            continue
        candidates.append(replace(shape, **columns))
    if "output" in columns:
        candidates.append(Shape("dialogue", **columns))
    fitting = {shape: sum(isinstance(r, Mapping) and shape.fits(r) for r in rows)
               for shape in candidates}  # fmt: skip
    return sorted((shape for shape in candidates if fitting[shape]), key=lambda s: -fitting[s])


def no_shape(where: str, rows: Sequence[Any], reason: str) -> ShapeError:
    """Return the error for rows none of which can be scored, with a hint that fits them.

    Args:
        where: name of the input.
        rows: the parsed ones of the first rows, perhaps none.
        reason: why the first row cannot be scored.
    """
    names = list(dict.fromkeys(name for row in rows if isinstance(row, Mapping) for name in row))
    message = f"none of the first rows can be scored: {reason}"
    if not names:
        return ShapeError(
            message, "an input is JSON lines, a JSON array, CSV with a header, Parquet or Arrow"
        )
    return ShapeError(f"{message}. {_fields(where, names)}", _hint(names, rows))


def _hint(names: Sequence[str], rows: Sequence[Any]) -> str:
    if "chosen" in names and "rejected" in names:
        return (
            "these are pairs of a chosen and a rejected response; `columns` output=chosen scores "
            "the chosen ones, and output=rejected the others in a run of its own"
        )
    first = next(row for row in rows if isinstance(row, Mapping) and row)
    for name, value in first.items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            if not {"role", "from"} & value[0].keys():
                return (
                    f"if {name} holds the rows, make lines of them: jq -c '.{name}[]' FILE | "
                    "harmless score - …"
                )
            return f"if {name} holds the turns of a conversation: `columns` messages={name}"
    # Objects and numbers are no texts. Their fields are named with dots.
    texts = [name for name in names if isinstance(first.get(name), str | list | None)]
    by_case = {str(name).strip().lower(): name for name in reversed(texts)}
    guessed = []
    for target, usual in _USUAL.items():
        near = next((by_case[name] for name in usual if name in by_case), None)
        close = difflib.get_close_matches(target, texts, 1)
        guessed.append(f"{target}={near or (close[0] if close else 'FIELD')}")
    if "context" in by_case:
        guessed.append(f"input={by_case['context']}")
    ids = [name for name in names if str(name).lower() in ("id", "uid", "uuid", "_id", "guid")]
    if ids and "id" not in names:
        guessed.append(f"id={ids[0]}")
    known = ", ".join(field.name for field in fields(Shape) if field.name in TARGETS)
    return f"name the fields, for example `columns` {','.join(guessed)} (it can name {known})"

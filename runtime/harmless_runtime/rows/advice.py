"""Say what is wrong with rows that have no known shape, and which fields to name."""

import difflib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from harmless_runtime.errors import ShapeError
from harmless_runtime.rows.shapes import Reading, Shape, nameable

logger = logging.getLogger(__name__)

OTHER_ENCODING = "if a file has another encoding: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW_FILE"
# Names that fields often have, for a hint. The first that a row has is taken.
_USUAL = {
    "instruction": ("instruction", "prompt", "question", "query", "request", "user", "input"),
    "output": ("output", "response", "completion", "answer", "reply", "assistant", "chosen"),
}


def check_fields(rows: Sequence[Any], where: str, named: Shape, reading: Reading) -> None:
    """Check that rows have the fields that the options name, which may be misspelled.

    Args:
        rows: the first rows, of which those that are not mappings are passed over.
        where: name of the input.
        named: the shape that the options name, or as much of it.
        reading: its `columns` are the fields that are named by hand. A warning tells if no row has
            one of these that rows may leave out.

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
            raise ShapeError(
                f"{missing}{meant}. {_fields(where, names)}", _hint(names, rows, reading)
            )
        if target in reading.columns:
            logger.warning("%s%s. %s", missing, meant, _fields(where, names))


def _fields(where: str, names: Sequence[Any]) -> str:
    shown = ", ".join(map(str, names[:12])) + (", …" if len(names) > 12 else "")
    return f"The fields of {where} are: {shown}"


def no_shape(where: str, rows: Sequence[Any], reason: str, reading: Reading) -> ShapeError:
    """Return the error for rows none of which can be scored, with a hint that fits them.

    Args:
        where: name of the input.
        rows: the parsed ones of the first rows, perhaps none.
        reason: why the first row cannot be scored.
        reading: how the rows were to be read.
    """
    names = list(dict.fromkeys(name for row in rows if isinstance(row, Mapping) for name in row))
    message = f"none of the first rows can be scored: {reason}"
    if "UTF-8" in reason:
        return ShapeError(message, OTHER_ENCODING)
    if not names:
        return ShapeError(
            message, "an input is JSON lines, a JSON array, CSV with a header, Parquet or Arrow"
        )
    return ShapeError(f"{message}. {_fields(where, names)}", _hint(names, rows, reading))


def _hint(names: Sequence[str], rows: Sequence[Any], reading: Reading) -> str:
    if reading.pairs:
        return (
            "name the fields of the pairs, for example `columns` instruction=prompt,output=chosen,"
            f"rejected=rejected (it can name {', '.join(nameable(reading))})"
        )
    if "chosen" in names and "rejected" in names:
        return (
            "these are pairs of a chosen and a rejected response: harmless eval tells how often "
            "the model prefers the chosen one; or score the chosen ones with `columns` "
            "output=chosen, and the others with output=rejected in a run of its own"
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
    known = ", ".join(nameable(reading))
    return f"name the fields, for example `columns` {','.join(guessed)} (it can name {known})"

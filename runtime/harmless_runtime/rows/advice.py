"""Say what is wrong with rows that have no known shape, and which fields to name."""

import difflib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from harmless_runtime.errors import ShapeError
from harmless_runtime.rows.shapes import Reading, Shape, nameable

logger = logging.getLogger(__name__)

# Names that fields often have, for a hint. The first that a row has is taken.
_USUAL = {
    "instruction": ("instruction", "prompt", "question", "query", "request", "user", "input"),
    "output": ("output", "response", "completion", "answer", "reply", "assistant", "chosen"),
}
_USUAL_PAIRS = {
    "instruction": ("instruction", "prompt", "question", "query", "conversations"),
    "output": ("chosen", "preferred", "preferred_output", "better"),
    "rejected": ("rejected", "rejected_response", "non_preferred_output", "worse"),
}
# Fields that belong to a request, beside it.
_CONTEXTS = ("input", "context")


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


def warn_of_unread(rows: Sequence[Any], where: str, shape: Shape) -> None:
    """Log which field beside the requests is not read, though it may belong to them.

    Args:
        rows: the first rows, of which those that are not mappings are passed over.
        where: name of the input.
        shape: the shape that was recognised.
    """
    if shape.instruction is None or shape.input is not None:
        return
    for name in _CONTEXTS:
        if name not in shape.roots and any(isinstance(r, Mapping) and r.get(name) for r in rows):
            logger.warning(
                "the field %s of %s is not read; `columns` input=%s adds it to the requests",
                name,
                where,
                name,
            )


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
        return ShapeError(
            message, "if the file has another encoding: iconv -f ENCODING -t UTF-8 FILE > NEW_FILE"
        )
    if rows and all(isinstance(row, str) for row in rows):
        return ShapeError(message, "make rows of the texts: jq -c fromjson FILE | harmless score -")
    if not names:
        return ShapeError(
            message, "an input is JSON lines, a JSON array, CSV with a header, Parquet or Arrow"
        )
    return ShapeError(f"{message}. {_fields(where, names)}", _hint(names, rows, reading))


def _hint(names: Sequence[str], rows: Sequence[Any], reading: Reading) -> str:
    first = next(row for row in rows if isinstance(row, Mapping) and row)
    if reading.pairs:
        return (
            f"{_named(names, _USUAL_PAIRS)} (it can name {', '.join(nameable(reading))}); "
            "the better response has to be in the same field in all rows"
        )
    if "chosen" in names and "rejected" in names:
        return (
            "these are pairs of a chosen and a rejected response: harmless eval tells how often "
            "the model prefers the chosen one; or score the chosen ones with `columns` "
            "output=chosen, and the others with output=rejected in a run of its own"
        )
    if len(rows) == 1 and _is_of_pandas(first):
        return "make rows of the table: frame.to_json('NEW.jsonl', orient='records', lines=True)"
    # Objects and numbers are no texts. Their fields are named with dots.
    texts = [name for name in names if isinstance(first.get(name), str | list | None)]
    lists = {
        name: value[0]
        for name, value in first.items()
        if isinstance(value, list) and value and isinstance(value[0], Mapping)
    }
    for name, element in lists.items():
        is_turn = bool({"role", "from"} & element.keys())
        if is_turn and not {*map(str.lower, map(str, texts))} & {*_USUAL["output"]}:
            return f"if {name} holds the turns of a conversation: `columns` messages={name}"
        if not is_turn and len(rows) == 1:
            return (
                f"if {name} holds the rows, make lines of them: jq -c '.{name}[]' FILE | "
                "harmless score - …"
            )
        if not is_turn:
            field = next((usual for usual in _USUAL["output"] if usual in element), "FIELD")
            return (
                f"turns have role and content, or from and value; other texts in {name} are named "
                f"with dots, for example `columns` output={name}.0.{field}"
            )
    hint = _named(texts, _USUAL)
    by_case = {str(name).strip().lower(): name for name in reversed(texts)}
    if "context" in by_case:
        hint += f",input={by_case['context']}"
    ids = [name for name in names if str(name).lower() in ("id", "uid", "uuid", "_id", "guid")]
    if ids and "id" not in names:
        hint += f",id={ids[0]}"
    return f"{hint} (it can name {', '.join(nameable(reading))})"


def _named(names: Sequence[str], usual: Mapping[str, Sequence[str]]) -> str:
    """Return the hint to name fields, with the likeliest field for each target."""
    by_case = {str(name).strip().lower(): name for name in reversed(names)}
    guessed = []
    for target, likely in usual.items():
        near = next((by_case[name] for name in likely if name in by_case), None)
        close = difflib.get_close_matches(target, map(str, names), 1)
        guessed.append(f"{target}={near or (close[0] if close else 'FIELD')}")
    return f"name the fields, for example `columns` {','.join(guessed)}"


def _is_of_pandas(row: Mapping[Any, Any]) -> bool:
    """Return whether a row is a whole table, as pandas writes one if it is not told otherwise."""
    if {"columns", "index", "data"} <= row.keys():
        return True
    inner = [value for value in row.values() if isinstance(value, Mapping)]
    if len(inner) < len(row):
        return False
    labels = [row.keys(), set().union(*inner)]
    return any(names and all(map(str.isdecimal, names)) for names in labels)

"""Say what is wrong with rows that have no known shape."""

import difflib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from harmless_runtime.errors import ShapeError
from harmless_runtime.rows.hints import hint_for
from harmless_runtime.rows.shapes import Reading, Shape
from harmless_runtime.rows.unread import Form, Unread

logger = logging.getLogger(__name__)

# Fields that belong to a request, beside it.
_CONTEXTS = ("input", "context")


def check_fields(
    rows: Sequence[Any], where: str, named: Shape, reading: Reading, form: Form
) -> None:
    """Check that rows have the fields that the options name, which may be misspelled.

    Args:
        rows: the first rows, of which those that are not mappings are passed over.
        where: name of the input.
        named: the shape that the options name, or as much of it.
        reading: its `columns` are the fields that are named by hand. A warning tells if no row has
            one of these that rows may leave out.
        form: what the rows are.

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
                f"{missing}{meant}. {_fields(where, names)}",
                hint_for(Unread(rows, missing, reading, form)),
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


def no_shape(
    where: str, rows: Sequence[Any], place: str, reason: str, reading: Reading, form: Form
) -> ShapeError:
    """Return the error for rows none of which can be scored, with a hint that fits them.

    Args:
        where: name of the input.
        rows: the parsed ones of the first rows, perhaps none.
        place: of a row that cannot be scored.
        reason: why it cannot, which is the commonest reason.
        reading: how the rows were to be read.
        form: what they are.
    """
    names = list(dict.fromkeys(name for row in rows if isinstance(row, Mapping) for name in row))
    message = f"none of the first rows can be scored: {place}: {reason}"
    if names:
        message += f". {_fields(where, names)}"
    return ShapeError(message, hint_for(Unread(rows, reason, reading, form)))

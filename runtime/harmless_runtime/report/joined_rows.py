"""Read rows that hold their scores, as `harmless score --join` writes them."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from harmless_runtime.report.row import ScoredRow, finite, group_of, text_of
from harmless_runtime.rows.inputs import Inputs
from harmless_runtime.rows.parsing import RowParser
from harmless_runtime.rows.records import Fields, Pair, Reject
from harmless_runtime.scores.columns import values_of
from harmless_runtime.scores.log import score_in, text_of_id


def joined_rows(inputs: Inputs, column: str, by: str | None) -> Iterator[ScoredRow]:
    """Yield joined rows.

    Args:
        inputs: the rows.
        column: the field of their scores.
        by: the field that they are grouped by, or None for their inputs.

    Raises:
        InputError: a field of scores holds something else, or the rows cannot be read.
    """
    parse = inputs.parser()
    for source in inputs.sources:
        for row, item in inputs.originals(source):
            values = values_of(row) or {}
            if isinstance(row, Fields) and isinstance(item, Reject):
                item = _with_decoded_cells(row, item, values, parse)
            score = score_in(values.get(column), row, column)
            row_id, texts = text_of(values.get("id", "")), ("", "")
            if isinstance(item, Pair):
                row_id, texts = text_of_id(item.id), (item.question, item.answer)
            group = item.source if by is None else group_of(values, by)
            yield ScoredRow(
                None if score is None else finite(score),
                row_id,
                item.source,
                item.number,
                *texts,
                group=group,
            )


def _with_decoded_cells(
    row: Fields, item: Reject, values: Mapping[str, Any], parse: RowParser
) -> Pair | Reject:
    """Return what is made of a row whose cells hold lists and objects as JSON, as joined CSV does.

    Those that hold a list of turns are read without this.
    """
    made = parse(Fields(row.source, row.number, _decoded(values)))
    return made if isinstance(made, Pair) else item


def _decoded(values: Mapping[str, Any]) -> dict[str, Any]:
    decoded = dict(values)
    for name, value in values.items():
        if isinstance(value, str) and value[:1] in ("[", "{"):
            with suppress(msgspec.DecodeError, RecursionError, UnicodeEncodeError):
                decoded[name] = msgspec.json.decode(value)
    return decoded

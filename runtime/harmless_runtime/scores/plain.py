"""Write lines of scores in another form: ids and scores without the rows."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from harmless_runtime.rows.arrow_rows import need_pyarrow
from harmless_runtime.scores.lines import CsvWriter, open_bytes
from harmless_runtime.scores.log import ScoreLine, read_scores, text_of_id
from harmless_runtime.scores.tables import open_parquet_writer
from harmless_runtime.scores.targets import Target

_BLOCK_ROWS = 1024
_DETAILS = ("tokens", "truncated", "source", "line")

# Texts, or integers of 64 bits, or anything else, which is written as the text of its JSON.
IdKind = Literal["text", "integer", "JSON"]


def write_plain(target: Target, lines: Iterable[bytes], ids: IdKind, details: bool) -> None:
    """Write lines of scores to the file of a target.

    Args:
        target: the file to write.
        lines: the lines of scores.
        ids: what the ids of all lines of the run are.
        details: whether the lines have the members that `details` adds.

    Raises:
        OutputError: pyarrow cannot write the file.
        ConfigError: pyarrow is missing, and a Parquet file is to be written.
    """
    if target.form.kind == "Parquet":
        _write_parquet(target, lines, ids, details)
        return
    with open_bytes(target.made, target.form) as file:
        if target.form.kind == "JSON lines":
            file.writelines(lines)
            return
        names = ["id", "score", *(_DETAILS if details else ())]
        writer = CsvWriter(file, target.form.delimiter, names)
        for line in read_scores(lines):
            writer.write({**_details(line), "id": text_of_id(bytes(line.id)), "score": line.score})
        writer.close()


def _write_parquet(target: Target, lines: Iterable[bytes], ids: IdKind, details: bool) -> None:
    need_pyarrow(target.final.name)
    import pyarrow as pa

    id_type = pa.int64() if ids == "integer" else pa.string()
    fields = [("id", id_type), ("score", pa.float32())]
    if details:
        types = pa.int64(), pa.bool_(), pa.string(), pa.int64()
        fields += zip(_DETAILS, types, strict=True)
    rows = (
        {
            **_details(line),
            "id": int(bytes(line.id)) if ids == "integer" else text_of_id(bytes(line.id)),
            "score": float(bytes(line.score)),
        }
        for line in read_scores(lines)
    )
    with open_parquet_writer(target.made, pa.schema(fields)) as table:
        while block := list(islice(rows, _BLOCK_ROWS)):
            table.write_rows(block)


def kind_of_ids(log: Path) -> IdKind:
    """Return what the ids of all lines of scores are."""
    kinds: set[IdKind] = set()
    with log.open("rb") as lines:
        for line in read_scores(lines):
            kinds.add(_kind_of_id(bytes(line.id)))
            if len(kinds) > 1:
                return "JSON"
    return kinds.pop() if kinds else "text"


def _kind_of_id(text: bytes) -> IdKind:
    if text.startswith(b'"'):
        return "text"
    try:
        return "integer" if -(2**63) <= int(text) < 2**63 else "JSON"
    except ValueError:
        return "JSON"


def _details(line: ScoreLine) -> dict[str, Any]:
    return {name: getattr(line, name) for name in _DETAILS}

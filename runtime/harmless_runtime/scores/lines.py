"""Write results as JSON lines or as CSV, compressed or not. The bytes depend on the rows alone."""

import csv
import gzip
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import msgspec
import zstandard

from harmless_runtime.errors import OutputError
from harmless_runtime.rows.records import Line
from harmless_runtime.scores.targets import ResultForm
from harmless_runtime.scores.texts import Utf8, as_text

_Members = dict[str, msgspec.Raw]
# Decodes an object into the JSON texts of its members.
decode_members = msgspec.json.Decoder(_Members).decode


@contextmanager
def open_bytes(path: Path, form: ResultForm) -> Iterator[IO[bytes]]:
    """Open a new file to be written, compressed as its form says. It carries no time stamp."""
    with ExitStack() as stack:
        file: IO[bytes] = stack.enter_context(path.open("wb"))
        if form.compression == "gzip":
            packed = gzip.GzipFile("", "wb", 6, file, mtime=0)
            yield stack.enter_context(io.BufferedWriter(packed, 2**18))
        elif form.compression == "zstandard":
            writer = zstandard.ZstdCompressor(3).stream_writer(file, closefd=False)
            yield stack.enter_context(io.BufferedWriter(writer, 2**18))  # type: ignore[type-var]
        else:
            yield file


def line_of(row: Line, column: str | None, score: bytes) -> bytes | None:
    """Return the line of a row with its score added, or None if the row is not a JSON object.

    The bytes of the row stay as they are, except that line feeds and carriage returns between its
    tokens become spaces.

    Args:
        row: the row.
        column: name of the field for the score. None adds none.
        score: its JSON text.

    Raises:
        OutputError: the row has such a field already.
    """
    if row.length is not None:
        return None
    try:
        row.raw.decode()
        members = decode_members(row.raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    # A line feed in a string is written as an escape, so these stand between tokens.
    line = row.raw.replace(b"\n", b" ").replace(b"\r", b" ").rstrip(b" \t")
    if column is None:
        return line + b"\n"
    check_column(column, members, f"{row.source}, line {row.number},")
    comma = b", " if members else b""
    return line[:-1] + comma + msgspec.json.encode(column) + b": " + score + b"}\n"


def as_line(
    values: Mapping[str, Any], column: str | None, score: bytes, where: str, utf8: Utf8
) -> bytes:
    """Return the fields of a row and its score as a line of JSON.

    A value that JSON does not have, such as a time, becomes its text. NaN becomes null.

    Args:
        values: the fields.
        column: name of the field for the score. None adds none.
        score: its JSON text.
        where: which row it is.
        utf8: makes texts valid.

    Raises:
        OutputError: the row has the field for the score already.
    """
    check_column(column, values, where)
    added = {} if column is None else {column: msgspec.Raw(score)}
    try:
        return msgspec.json.encode({**values, **added}, enc_hook=str) + b"\n"
    except UnicodeEncodeError:
        fixed = utf8.row(values, where)
        return msgspec.json.encode({**fixed, **added}, enc_hook=str) + b"\n"


def check_column(column: str | None, names: Sequence[str] | Mapping[str, Any], where: str) -> None:
    """Raise OutputError if a row or a table has a column with the name of the score column."""
    if column is not None and column in names:
        raise OutputError(
            f"{where} has a field {column} already", "`score_column` gives the score another name"
        )


class CsvWriter:
    """Writes rows as CSV: null as an empty cell, and anything else as `as_text` says.

    Args:
        file: where to write.
        delimiter: what stands between two cells.
        header: the names of all columns.
    """

    def __init__(self, file: IO[bytes], delimiter: str, header: Sequence[str]) -> None:
        # surrogateescape gives bytes of the input that are not UTF-8 back as they were.
        text = io.TextIOWrapper(file, "utf-8", "surrogateescape", newline="", write_through=True)
        self._text = text
        # The csv module puts cells in quotes that hold a byte of its line terminator. So it is told
        # of the carriage return as well, which `_Rows` takes away at the end of rows.
        self._writer = csv.writer(_Rows(text), delimiter=delimiter, lineterminator="\r\n")
        self._header = header
        self._writer.writerow(header)

    def write(self, values: Mapping[str, Any]) -> None:
        """Write a row, which has no other columns than those of the header."""
        self._writer.writerow(
            ["" if (v := values.get(n)) is None else as_text(v) for n in self._header]
        )

    def close(self) -> None:
        """Write what is still in memory. The file stays open."""
        self._text.detach()


class _Rows:
    """Writes the rows that the csv module hands over, each with a line feed alone at its end."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, row: str) -> None:
        self._file.write(row.removesuffix("\r\n") + "\n")

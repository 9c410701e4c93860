"""Read rows of CSV and TSV files, whose first line names the columns."""

import csv
from codecs import BOM_UTF8
from collections.abc import Iterator
from io import BufferedReader
from typing import Any

from harmless_runtime.errors import InputError
from harmless_runtime.rows.records import KEPT_BYTES, Fields, Reject

_DELIMITERS = ",\t;|"
# A line that is too long is passed over in pieces of this size.
_PIECE_BYTES = 2**16
_CONVERT = (
    "if its lines end in carriage returns alone, tr '\\r' '\\n' < FILE > NEW.csv makes line feeds "
    "of them"
)
_ESCAPED = "quotes in a cell have to be doubled, and not escaped with backslashes"
_PADDED = "a blank stands before a quote that begins a cell, which makes the quote part of the text"


def header_of(line: bytes) -> tuple[list[str], str]:
    """Return the names in a header, and the delimiter: the one that gives most names."""
    text = line.decode("utf-8-sig", "replace")
    delimiter = max(_DELIMITERS, key=text.count)
    try:
        return _stripped(next(csv.reader([text], delimiter=delimiter), [])), delimiter
    except csv.Error:
        return [], delimiter


def read_csv(
    name: str, file: BufferedReader, delimiter: str, line_bytes: int
) -> Iterator[Fields | Reject]:
    """Yield the rows of a CSV file, without blank lines. Every value is a text, as it is written.

    A row is rejected if it has more or fewer cells than the header, if its quotes are wrong, if it
    is the header once more, or if a line or a cell is too long. `number` is that of its first line.

    Args:
        name: name of the input.
        file: its bytes.
        delimiter: what stands between two cells.
        line_bytes: most bytes of a line, and of a cell.

    Raises:
        InputError: the header is not CSV, or names a column twice.
    """
    lines, reader, header = _begun(name, file, delimiter, line_bytes)
    while True:
        number = lines.number + 1
        lines.begin_row()
        csv.field_size_limit(line_bytes)  # it is that of the process, and other readers set it
        try:
            cells = next(reader)
        except StopIteration:
            return
        except _LongLineError as error:
            lines.skip_row()
            yield Reject(name, number, str(error), lines.raw)
            continue
        except csv.Error as error:
            reason = f"not valid CSV: {_in_words(error, lines.raw)}"
            if "field larger" in str(error):
                lines.skip_row()
                reason = "a cell is longer than max_line_bytes allows, or a quote is not closed"
            where = f" (it ends in line {lines.number})" if lines.number > number else ""
            yield Reject(name, number, reason + where, lines.raw)
            continue
        if not cells:
            continue
        fault = _fault_in(cells, lines.text) if lines.is_suspect else None
        if (lines.begins_file or cells[0].strip() == header[0]) and _named(cells) == header:
            # Files were joined, each with its header. Without a mark it may be a row.
            if not lines.begins_file:
                yield Reject(name, number, "the row is the header once more", lines.raw)
        elif len(cells) != len(header):
            reason = f"the row has {len(cells)} cells, and the header has {len(header)}"
            yield Reject(name, number, f"{reason}: {fault}" if fault else reason, lines.raw)
        elif fault:
            yield Reject(name, number, f"not valid CSV: {fault}", lines.raw)
        else:
            values = dict(zip(header, cells, strict=True))
            yield Fields(name, number, values, is_blank=not any(cells))


def read_header(name: str, file: BufferedReader, delimiter: str, line_bytes: int) -> list[str]:
    """Return the names of the columns, exactly as the rows of `read_csv` have them.

    Raises:
        InputError: as `read_csv`.
    """
    return _begun(name, file, delimiter, line_bytes)[2]


def _begun(
    name: str, file: BufferedReader, delimiter: str, line_bytes: int
) -> tuple["_Lines", Any, list[str]]:
    """Read the header. Return the lines of the file, what makes rows of them, and the names."""
    csv.field_size_limit(line_bytes)
    lines = _Lines(file, line_bytes)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        header = _named(next((cells for cells in reader if cells), []))
    except (csv.Error, _LongLineError) as error:
        raise InputError(
            f"{name}: the header of the CSV file is damaged: {_in_words(error, lines.raw)}",
            _CONVERT if b"\r" in lines.raw else None,
        ) from None
    if header[:1] == ["sep="]:
        raise InputError(
            f"{name}: the header of the CSV file is a line for Excel",
            "leave that line out: tail -n +2 FILE > NEW.csv",
        )
    twice = sorted({column for column in header if header.count(column) > 1})
    if twice:
        raise InputError(f"{name}: the header names a column twice: {', '.join(twice)}")
    return lines, reader, header


def _in_words(error: Exception, raw: bytes) -> str:
    """Return what is wrong with a row. The library speaks of how Python opens files."""
    if b'\\"' in raw:
        return _ESCAPED
    if "new-line character" in str(error):
        return "it has a carriage return without a line feed, outside quotes"
    return str(error)


def _fault_in(cells: list[str], text: str) -> str | None:
    """Return which quotes of a row the library has taken for words, and should not have."""
    for cell in cells:
        is_padded = cell[:1] == " " and cell.lstrip(" ")[:1] == '"'
        # A cell that is quoted as CSV has it stands so in the text.
        doubled = cell.replace('"', '""')
        if (is_padded or '\\"' in cell) and f'"{doubled}"' not in text:
            return _PADDED if is_padded else _ESCAPED
    return None


def _named(header: list[str]) -> list[str]:
    """Number the columns without a name, as pandas does, if there are several."""
    header = _stripped(header)
    if header.count("") < 2:
        return header
    return [name or f"Unnamed: {place}" for place, name in enumerate(header)]


def _stripped(header: list[str]) -> list[str]:
    """Return names without the blanks around them, if no two are the same then."""
    names = [name.strip() for name in header]
    return names if len(set(names)) == len(set(header)) else header


class _LongLineError(Exception):
    """A line has more bytes than allowed."""


class _Lines:
    """The lines of a file as texts. Bytes that are not UTF-8 become surrogates.

    `raw` is the beginning of what was read since the row began. `begins_file` says that a byte
    order mark stood before that, which is no part of it: files were joined there. `is_suspect`
    says that a quote stands behind a blank or a backslash.
    """

    def __init__(self, file: BufferedReader, line_bytes: int) -> None:
        self._file = file
        self._line_bytes = line_bytes
        self._quotes = 0
        self._lines: list[str] = []
        self.number = 0
        self.raw = b""
        self.begins_file = self.is_suspect = False

    def begin_row(self) -> None:
        """Forget the row before."""
        self.raw, self._quotes, self._lines = b"", 0, []
        self.begins_file = self.is_suspect = False

    @property
    def text(self) -> str:
        """The lines of the row."""
        return "".join(self._lines)

    def skip_row(self) -> None:
        """Pass over the rest of a row that is too long.

        In a whole row the number of quotes is even.
        """
        while self._quotes % 2 and self._rest_of_line(self._file.readline(_PIECE_BYTES)):
            self.number += 1

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        raw = self._file.readline(self._line_bytes + 1)
        if not raw:
            raise StopIteration
        self.number += 1
        if not self.raw and raw.startswith(BOM_UTF8):
            raw = raw.removeprefix(BOM_UTF8)
            self.begins_file = True
        if len(self.raw) < KEPT_BYTES:
            self.raw += raw.rstrip(b"\r\n") if not self.raw else b"\n" + raw.rstrip(b"\r\n")
        if len(raw) > self._line_bytes and not raw.endswith(b"\n"):
            self._rest_of_line(raw)
            raise _LongLineError("a line is longer than max_line_bytes allows")
        text = raw.decode("utf-8", "surrogateescape")
        if self._quotes or '"' in text:  # only then the text of the row may be asked for
            self._quotes += text.count('"')
            self.is_suspect |= ' "' in text or '\\"' in text
            self._lines.append(text)
        return text

    def _rest_of_line(self, begun: bytes) -> bool:
        """Count the quotes of a line in pieces. Return whether there was a line."""
        piece = begun
        while piece:
            self._quotes += piece.count(b'"')
            if piece.endswith(b"\n"):
                break
            piece = self._file.readline(_PIECE_BYTES)
        return bool(begun)

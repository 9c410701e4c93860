"""JSONL files to records, one a line; a line that cannot be scored becomes a reject."""

import base64
import logging
import os
import sys
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from harmless_runtime.errors import InputError

logger = logging.getLogger(__name__)

STDIN = "-"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of an input as it was read: `raw` without its line feed, `number` from 1.

    Of a line that is too long, `raw` is only the beginning, and `length` is that of all of it.
    """

    source: str
    number: int
    raw: bytes
    length: int | None = None


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a row that matter; others are ignored.

    `id` is the JSON text of the row's id, byte for byte, and `""` (a JSON empty string) where the
    row has none. `input` is optional, and null is taken as absent.
    """

    id: msgspec.Raw = msgspec.Raw(b'""')
    instruction: str
    input: str | None = None
    output: str


@dataclass(frozen=True, slots=True)
class Reject:
    """A line that gets no score, and why."""

    line: Line
    reason: str

    def to_json(self) -> bytes:
        """One line of the rejects file; bytes that are not UTF-8 go in base64."""
        # A name of a file may hold bytes that are not UTF-8.
        source = os.fsencode(self.line.source).decode("utf-8", "backslashreplace")
        origin = {"source": source, "line": self.line.number, "reason": self.reason}
        try:
            content = {"raw": self.line.raw.decode()}
        except UnicodeDecodeError:
            content = {"raw_base64": base64.b64encode(self.line.raw).decode()}
        return msgspec.json.encode(origin | content) + b"\n"


# What is kept of a line that is too long, and how much of it is read at a time.
_KEPT_BYTES = 1000
_CHUNK_BYTES = 2**20

_COMPRESSED = {b"\x1f\x8b": "gzip -dc", b"\x28\xb5\x2f\xfd": "zstd -dc"}
_DECODER = msgspec.json.Decoder(Record)


def check_sources(sources: Sequence[str]) -> None:
    """Raise InputError for a source that cannot be read as lines, before any work is done."""
    if STDIN in sources and sys.stdin is None:
        raise InputError("standard input is closed, and - asks for it")
    for source in sources:
        # A pipe is left alone: to open and close it would end its writer.
        if source == STDIN or Path(source).is_fifo():
            continue
        try:
            with Path(source).open("rb") as file:
                start = b"" if file.isatty() else file.read(4)
            if start and (Path(source).is_block_device() or Path(source).is_char_device()):
                raise InputError(f"{source} is a device, and has to be a file")
        except OSError as error:
            raise InputError(f"cannot read {source}: {error.strerror}") from error
        for magic, tool in _COMPRESSED.items():
            if start.startswith(magic):
                raise InputError(
                    f"{source} is compressed: {tool} {source} | harmless score - -o OUT.jsonl"
                )
        if start.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
            raise InputError(
                f"{source} is in UTF-16: iconv -f UTF-16 -t UTF-8 {source} | harmless score - "
                "-o OUT.jsonl"
            )
        if start.startswith(b"["):
            logger.warning(
                "%s begins with [: if it is one JSON array, jq -c '.[]' makes lines of it", source
            )


def read_lines(sources: Sequence[str], line_bytes: int) -> Iterator[Line]:
    """Yield the lines of files, or of standard input for `-`, in order, without blank ones.

    Lines end with a line feed alone, so other Unicode line separators stay inside their strings.

    Args:
        sources: paths, or `-`.
        line_bytes: of a longer line only the beginning is kept, so that memory is bounded.

    Raises:
        InputError: a file cannot be opened or read.
    """
    for source in sources:
        try:
            with _open(source) as file:
                number = 0
                # A byte order mark is not text, and not of the first line.
                while raw := file.readline(line_bytes + 1 + (0 if number else len(BOM_UTF8))):
                    number += 1
                    if number == 1:
                        raw = raw.removeprefix(BOM_UTF8)
                    text = raw.removesuffix(b"\n")
                    if len(text) > line_bytes:
                        rest = _skip_line(file) if text is raw else 0
                        yield Line(source, number, text[:_KEPT_BYTES], len(text) + rest)
                    elif text.strip(b" \t\r"):  # what JSON calls white space
                        yield Line(source, number, text)
        except OSError as error:
            raise InputError(f"cannot read {source}: {error.strerror}") from error


def _skip_line(file: BinaryIO) -> int:
    """Read to the end of a line; return the bytes before its line feed."""
    length = 0
    while chunk := file.readline(_CHUNK_BYTES):
        length += len(chunk)
        if chunk.endswith(b"\n"):
            return length - 1
    return length


def _open(source: str) -> BinaryIO:
    if source == STDIN:
        # Not sys.stdin: the interpreter aborts at exit where a thread is blocked reading that.
        return open(0, "rb", closefd=False)
    return Path(source).open("rb")


def parse_line(line: Line) -> Record | Reject:
    """Decode one line strictly: no byte is dropped, and no value is turned into text."""
    if line.length is not None:
        return Reject(
            line, f"the line has {line.length:,} bytes, more than max_line_bytes: raw is its start"
        )
    try:
        # The decoder does not look into the strings that it skips.
        line.raw.decode()
        return _DECODER.decode(line.raw)
    except UnicodeDecodeError as error:
        return Reject(line, f"invalid UTF-8 at byte {error.start} of the line")
    except RecursionError:
        return Reject(line, "JSON is nested too deeply")
    except msgspec.ValidationError as error:
        return Reject(line, str(error))
    except msgspec.DecodeError as error:
        return Reject(line, f"not valid JSON: {error}")

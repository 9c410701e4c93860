"""Find inputs, and read their lines: files, named pipes and standard input."""

import logging
import os
import stat
import sys
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from harmless_runtime.errors import InputError

logger = logging.getLogger(__name__)

STDIN = "-"

# A line that is too long is cut to `_KEPT_BYTES`. The rest of it is read in chunks and dropped.
_KEPT_BYTES = 1000
_CHUNK_BYTES = 2**20
# The first bytes of compressed files, and the tools that decompress them.
_COMPRESSED = {b"\x1f\x8b": "gzip -dc", b"\x28\xb5\x2f\xfd": "zstd -dc"}


@dataclass(frozen=True, slots=True)
class Source:
    """An input that `find_source` has looked at.

    `where` is a path, or `-` for standard input. `size` is in bytes, and None if the input is not a
    regular file. A `stream` is a named pipe, a terminal or a device that gave nothing.
    """

    where: str
    kind: Literal["file", "stream", "stdin"]
    size: int | None = None

    @property
    def name(self) -> str:
        """The name as valid UTF-8. A file name may hold bytes that are not valid UTF-8."""
        return os.fsencode(self.where).decode("utf-8", "backslashreplace")

    def open(self) -> BinaryIO:
        """Open the input for reading from its start.

        Raises:
            OSError: it is gone, or may not be read.
        """
        if self.kind == "stdin":
            # Not sys.stdin: the interpreter aborts at exit if a thread is blocked reading that.
            return open(0, "rb", closefd=False)
        return Path(self.where).open("rb")

    def is_same_file(self, path: Path) -> bool:
        """Return whether the input is the file at `path`, which has to exist.

        Standard input can be that file too, if the shell redirects the file into it.
        """
        try:
            status = os.fstat(0) if self.kind == "stdin" else Path(self.where).stat()
        except OSError:
            return False
        return os.path.samestat(status, path.stat())


def find_source(where: str) -> Source:
    """Check that an input can be read, and return its kind and size.

    Args:
        where: a path, or `-` for standard input.

    Raises:
        InputError: the input cannot be read, is compressed or in UTF-16, or is a device with data.
    """
    if where == STDIN:
        if sys.stdin is None:
            raise InputError("standard input is closed", "send rows to it, or name a file")
        return Source(where, "stdin")
    path = Path(where)
    try:
        # A pipe is left alone: to open and close it would end its writer.
        if path.is_fifo():
            return Source(where, "stream")
        with path.open("rb") as file:
            start = b"" if file.isatty() else file.read(4)
            status = os.fstat(file.fileno())
    except OSError as error:
        raise InputError(f"cannot read {where}: {error.strerror}") from error
    _check_start(where, start)
    if stat.S_ISREG(status.st_mode):
        return Source(where, "file", status.st_size)
    if start:
        raise InputError(f"{where} is a device", "name a file, a pipe, or - for standard input")
    return Source(where, "stream")


def _check_start(where: str, start: bytes) -> None:
    """Refuse, or warn of, an input whose first bytes are not those of a line of JSON."""
    for magic, tool in _COMPRESSED.items():
        if start.startswith(magic):
            raise InputError(
                f"{where} is compressed",
                f"score it from standard input: {tool} {where} | harmless score - …",
            )
    if start.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        raise InputError(
            f"{where} is in UTF-16",
            f"score it from standard input: iconv -f UTF-16 -t UTF-8 {where} | harmless score - …",
        )
    if start.startswith(b"["):
        logger.warning(
            "%s begins with [. If it is a JSON array, make lines of it: jq -c '.[]'", where
        )


@dataclass(frozen=True, slots=True)
class Line:
    """A line of an input, without its line feed. `number` counts from 1.

    If the line is longer than allowed, `raw` is only its beginning, and `length` is the number of
    bytes of the whole line. Otherwise `length` is None.
    """

    source: str
    number: int
    raw: bytes
    length: int | None = None


def read_lines(sources: Iterable[Source], line_bytes: int) -> Iterator[Line]:
    """Yield the lines of all inputs in order, without blank lines.

    Only a line feed ends a line. Other Unicode line separators stay in their strings.

    Args:
        sources: the inputs.
        line_bytes: the longest line that is kept whole. Memory stays bounded whatever comes in.

    Raises:
        InputError: an input cannot be opened or read.
    """
    for source in sources:
        try:
            with source.open() as file:
                number = 0
                # A byte order mark is not part of the first line's text.
                while raw := file.readline(line_bytes + 1 + (0 if number else len(BOM_UTF8))):
                    number += 1
                    if number == 1:
                        raw = raw.removeprefix(BOM_UTF8)
                    text = raw.removesuffix(b"\n")
                    if len(text) > line_bytes:
                        rest = _skip_line(file) if text is raw else 0
                        yield Line(source.name, number, text[:_KEPT_BYTES], len(text) + rest)
                    elif text.strip(b" \t\r"):  # what JSON calls white space
                        yield Line(source.name, number, text)
        except OSError as error:
            raise InputError(f"cannot read {source.name}: {error.strerror}") from error


def _skip_line(file: BinaryIO) -> int:
    """Read to the end of a line; return the number of bytes before its line feed."""
    length = 0
    while chunk := file.readline(_CHUNK_BYTES):
        length += len(chunk)
        if chunk.endswith(b"\n"):
            return length - 1
    return length

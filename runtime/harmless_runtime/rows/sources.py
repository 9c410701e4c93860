"""Say where rows come from: a file, a pipe, standard input, or a file that is elsewhere."""

import os
import stat
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

from harmless_runtime.errors import InputError
from harmless_runtime.rows import remote

STDIN = "-"


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a file.

    Attributes:
        unit: a span of `bytes` holds whole lines of JSON.
        begin: the first byte or row group, from 0.
        end: the first one after the span.
        size: bytes of the file that the span holds, as they are stored.
    """

    unit: Literal["bytes", "row groups"]
    begin: int
    end: int
    size: int


@dataclass(frozen=True, slots=True)
class Source:
    """An input that `find_source` has looked at, or a part of one.

    Attributes:
        where: a path, a URL, or `-` for standard input.
        kind: a `stream` is a named pipe, a terminal or a device that gave nothing. A `remote` input
            has a URL.
        size: bytes. None if the input is not a file, or its server does not tell.
        version: what changes if a remote file does: its ETag, or the time of its last change.
        changed: the time of a file's last change, in nanoseconds since 1970.
        below: its path below the folder that was named, or its own name if it was named itself.
        span: the part of the file that is read. None means all of it.
    """

    where: str
    kind: Literal["file", "stream", "stdin", "remote"]
    size: int | None = None
    version: str | None = None
    below: str = ""
    changed: int | None = field(default=None, compare=False)
    span: Span | None = None
    # What `valid_text` makes of `where`.
    name: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", valid_text(self.where))

    @property
    def can_be_opened_again(self) -> bool:
        """Whether its rows can be read twice."""
        return self.kind in ("file", "remote")

    @property
    def bytes_read(self) -> int | None:
        """The bytes of the part that is read, or None if they are not known."""
        return self.size if self.span is None else self.span.size

    @property
    def is_continued(self) -> bool:
        """Whether it is a part of a file, and not the first one."""
        return self.span is not None and self.span.begin > 0

    def open(self) -> BinaryIO:
        """Open the input for reading from its start.

        Raises:
            OSError: it is gone, or may not be read.
        """
        if self.kind == "remote":
            return remote.open_file(self.where)
        if self.kind == "stdin":
            # Not sys.stdin: the interpreter aborts at exit if a thread is blocked reading that.
            return open(0, "rb", buffering=0, closefd=False)
        return Path(self.where).open("rb", buffering=0)

    def is_same_file(self, path: Path) -> bool:
        """Return whether the input is the file at `path`, which has to exist.

        Standard input can be that file too, if the shell redirects the file into it.
        """
        if self.kind == "remote":
            return False
        try:
            status = os.fstat(0) if self.kind == "stdin" else Path(self.where).stat()
        except OSError:
            return False
        return os.path.samestat(status, path.stat())


def valid_text(name: str) -> str:
    """Return a file's name as valid UTF-8, with `\\xff` for each byte that is not."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def find_source(where: str, below: str = "") -> Source:
    """Check that one input can be read, and return its kind and size.

    Args:
        where: a path, a URL, or `-` for standard input.
        below: as in `Source`.

    Raises:
        InputError: the input cannot be read, or is a device with data.
        ConfigError: the input is remote, and packages for that are missing.
    """
    if where == STDIN:
        if sys.stdin is None:
            raise InputError("standard input is closed", "send rows to it, or name a file")
        return Source(where, "stdin")
    if remote.is_remote(where):
        facts = remote.look_at(where)
        return Source(where, "remote", facts.size, facts.version, below)
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
    if stat.S_ISREG(status.st_mode):
        return Source(where, "file", status.st_size, None, below, status.st_mtime_ns)
    if start:
        raise InputError(f"{where} is a device", "name a file, a pipe, or - for standard input")
    return Source(where, "stream")

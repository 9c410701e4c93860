"""Say where rows come from: a file, a pipe, standard input, or a file that is elsewhere."""

import logging
import os
import shlex
import stat
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Literal

from harmless_runtime.errors import ChangedError, InputError
from harmless_runtime.rows import remote
from harmless_runtime.rows.contents import check_beginning
from harmless_runtime.rows.file_version import FileVersion, version_of

logger = logging.getLogger(__name__)

STDIN = "-"
# After so long, a pipe that nobody writes to is reported.
PIPE_SECONDS = 3.0


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
        below: its path below the folder that was named, or its own name if it was named itself.
        span: the part of the file that is read. None means all of it.
        seen: what `find_source` saw of a file, also of one that standard input comes from.
    """

    where: str
    kind: Literal["file", "stream", "stdin", "remote"]
    size: int | None = None
    version: str | None = None
    below: str = ""
    span: Span | None = None
    seen: FileVersion | None = field(default=None, compare=False)
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

    @property
    def changed(self) -> int | None:
        """The time of a file's last change, in nanoseconds since 1970."""
        return self.seen.changed if self.seen is not None and self.kind == "file" else None

    def open(self) -> BinaryIO:
        """Open the input for reading from its start.

        Raises:
            OSError: it is gone, or may not be read.
            ChangedError: it is not the file that `find_source` saw.
        """
        if self.kind == "remote":
            return remote.open_file(self.where)
        if self.kind == "stdin":
            # Not sys.stdin: the interpreter aborts at exit if a thread is blocked reading that.
            return open(0, "rb", buffering=0, closefd=False)
        if self.kind == "stream":
            return self._open_stream()
        file = Path(self.where).open("rb", buffering=0)  # noqa: SIM115 - the caller closes it
        if self._differs_from(os.fstat(file.fileno())):
            file.close()
            raise self._changed_error()
        return file

    def _open_stream(self) -> BinaryIO:
        """Open a pipe or a device. To open a pipe takes until somebody writes to it."""
        message = "%s is a pipe that nobody writes to yet: waiting for its rows"
        report = threading.Timer(PIPE_SECONDS, logger.warning, (message, self.name))
        report.daemon = True
        report.start()
        try:
            return Path(self.where).open("rb", buffering=0)
        finally:
            report.cancel()

    def check_unchanged(self) -> None:
        """Raise ChangedError if the input is not what `find_source` saw, as far as that shows.

        A pipe shows nothing, nor does a server that says neither a size nor a version.

        Raises:
            ChangedError: it has changed.
            InputError: it is gone, or cannot be reached.
        """
        if self.kind == "remote":
            facts = remote.look_at(self.where)
            if (facts.size, facts.version) != (self.size, self.version):
                raise self._changed_error()
        elif self.seen is not None:
            try:
                status = os.fstat(0) if self.kind == "stdin" else Path(self.where).stat()
            except OSError as error:
                raise InputError(f"cannot read {self.name}: {error.strerror}") from error
            if self._differs_from(status):
                raise self._changed_error()

    def seen_here(self) -> "Source":
        """Return an input that another machine has found, as this machine sees it.

        Raises:
            ChangedError: it has changed since.
            InputError: as `find_source`.
        """
        now = replace(find_source(self.where, self.below), span=self.span)
        if (now.kind, now.size, now.version) != (self.kind, self.size, self.version):
            raise self._changed_error()
        if self.seen and now.seen and self.seen.has_changed(now.seen, on_other_machine=True):
            raise self._changed_error()
        return now

    def _differs_from(self, status: os.stat_result) -> bool:
        return self.seen is not None and self.seen.has_changed(version_of(status))

    def _changed_error(self) -> ChangedError:
        name = "standard input" if self.kind == "stdin" else self.name
        return ChangedError(
            f"{name} has changed since the run began", "use a copy of an input that others write to"
        )


def files_of(sources: Iterable[Source]) -> set[tuple[int, int]]:
    """Return the device and inode of each file that inputs have now.

    The file that the shell redirects into standard input is one of them.
    """
    found = set()
    for source in sources:
        try:
            if source.kind == "stdin":
                status = os.fstat(0)
            elif source.kind != "remote":
                status = os.stat(source.where)  # noqa: PTH116 - it is three times as fast
            else:
                continue
        except OSError:
            continue
        found.add((status.st_dev, status.st_ino))
    return found


def is_one_of(path: Path, files: set[tuple[int, int]]) -> bool:
    """Return whether something is at a path that is one of these files."""
    try:
        status = path.stat()
    except OSError:
        return False
    return (status.st_dev, status.st_ino) in files


def valid_text(name: str) -> str:
    """Return a file's name as valid UTF-8, with `\\xff` for each byte that is not."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def find_source(where: str, below: str = "") -> Source:
    """Check that one input can be read, and return its kind and size.

    The first bytes of a local file have to be those of rows, in a form that its name says. Those of
    a remote one are not looked at.

    Args:
        where: a path, a URL, or `-` for standard input.
        below: as in `Source`.

    Raises:
        InputError: the input cannot be read, is not what its name says, or is a device with data.
        ConfigError: the input is remote, and packages for that are missing.
    """
    if where == STDIN:
        if sys.stdin is None:
            raise InputError("standard input is closed", "send rows to it, or name a file")
        status = os.fstat(0)
        return Source(where, "stdin", seen=version_of(status) if _is_file(status) else None)
    if remote.is_remote(where):
        facts = remote.look_at(where)
        return Source(where, "remote", facts.size, facts.version, below)
    path = Path(where)
    try:
        # A pipe is left alone: to open and close it would end its writer.
        if path.is_fifo():
            return Source(where, "stream")
        with path.open("rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if _is_file(status):
                check_beginning(valid_text(where), file.read)
                seen = version_of(status)
                return Source(where, "file", seen.size, None, below, seen=seen)
            start = b"" if file.isatty() else file.read(4)
    except FileNotFoundError as error:
        raise InputError(f"cannot read {where}: {error.strerror}", _annexed(path)) from error
    except OSError as error:
        raise InputError(f"cannot read {where}: {error.strerror}") from error
    if start:
        raise InputError(f"{where} is a device", "name a file, a pipe, or - for standard input")
    return Source(where, "stream")


def _annexed(path: Path) -> str | None:
    """Return what to do about a link to a file that git-annex has not fetched."""
    if path.is_symlink() and ".git/annex/objects/" in str(path.readlink()):
        return f"fetch it: git annex get {shlex.quote(valid_text(str(path)))}"
    return None


def _is_file(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode)

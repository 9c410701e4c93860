"""Open an input as a stream of bytes, decompressed, whose beginning has been looked at."""

import io
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from harmless_runtime.errors import InputError, one_line
from harmless_runtime.rows.compressed import DAMAGED, decompressor_of
from harmless_runtime.rows.sources import Source

_BUFFER_BYTES = 2**18
# The longest beginning that is looked at: it holds the header of a CSV file.
_HEAD_BYTES = 2**16


class Meter:
    """Counts what was read of the inputs.

    Attributes:
        bytes: the bytes, before they were decompressed.
        lines: the lines of the last input or span, if it was JSON lines. Blank ones count too.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self.lines = 0


@dataclass(frozen=True)
class Stream:
    """An open input. `head` is the first line that is not blank, or its first 64 KiB.

    `data` still holds everything, `head` included. `is_compressed` tells whether it was.
    """

    source: Source
    head: bytes
    data: io.BufferedReader
    is_compressed: bool


@contextmanager
def open_stream(source: Source, meter: Meter) -> Iterator[Stream]:
    """Open an input; decompress it if its first bytes are those of a compressed file.

    Raises:
        InputError: the input cannot be opened or read, also where that happens in the block.
    """
    with errors_named(source), source.open() as file:
        head, data = _looked_at(_Metered(file, meter))
        decompressor = decompressor_of(head)
        if decompressor is None:
            yield Stream(source, head, data, is_compressed=False)
            return
        head, data = _looked_at(decompressor(data))
        yield Stream(source, head, data, is_compressed=True)


@contextmanager
def open_span(source: Source, meter: Meter) -> Iterator[io.BufferedReader]:
    """Open a span of bytes of a file that is not compressed. It raises what `open_stream` does."""
    assert source.span is not None
    with errors_named(source), source.open() as file:
        file.seek(source.span.begin)
        part = _Metered(file, meter, source.span.end - source.span.begin)
        yield io.BufferedReader(part, _BUFFER_BYTES)


@contextmanager
def errors_named(source: Source) -> Iterator[None]:
    """Raise InputError, in one sentence, if an input cannot be read or has changed meanwhile."""
    try:
        yield
        if source.kind == "file":  # an end that came too early looks like the end
            source.check_unchanged()
    except InputError:
        source.check_unchanged()  # which explains any damage
        raise
    except DAMAGED as error:
        source.check_unchanged()
        raise InputError(
            f"cannot read {source.name}: its compressed data is damaged or ends early "
            f"({one_line(error)})"
        ) from error
    except OSError as error:
        source.check_unchanged()
        reason = error.strerror or one_line(error) or type(error).__name__
        raise InputError(f"cannot read {source.name}: {reason}") from error


class _Metered(io.RawIOBase):
    """Reads a file, or a part of it, and counts what it reads."""

    def __init__(self, file: BinaryIO, meter: Meter, most: int | None = None) -> None:
        self._read_into = file.readinto  # type: ignore[attr-defined]
        self._meter = meter
        self._left = most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._left is not None:
            buffer = memoryview(buffer)[: self._left]
        count: int | None = self._read_into(buffer)
        if self._left is not None:
            self._left -= count or 0
        self._meter.bytes += count or 0
        return count


class _Replay(io.RawIOBase):
    """Gives bytes that were read already, and then the rest of a stream."""

    def __init__(self, head: bytes, rest: io.BufferedReader) -> None:
        self._head = memoryview(head)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._head:
            count = min(len(buffer), len(self._head))
            buffer[:count] = self._head[:count]
            self._head = self._head[count:]
            return count
        # At most one read of the system: a pipe gives its rows as they come.
        return self._rest.readinto1(buffer)


def _looked_at(raw: Any) -> tuple[bytes, io.BufferedReader]:
    """Return the first line of a stream that is not blank, and the whole stream again."""
    stream = io.BufferedReader(raw, _BUFFER_BYTES)
    seen = b""
    while line := stream.readline(_HEAD_BYTES):
        seen += line
        if line.removeprefix(BOM_UTF8).strip(b" \t\r\n") or len(seen) >= _HEAD_BYTES:
            break
    return line, io.BufferedReader(_Replay(seen, stream), _BUFFER_BYTES)

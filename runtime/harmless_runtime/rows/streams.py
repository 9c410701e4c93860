"""Open an input as a stream of bytes, decompressed, whose beginning has been looked at."""

import bz2
import gzip
import io
import lzma
import re
import zlib
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import zstandard

from harmless_runtime.errors import InputError, one_line
from harmless_runtime.rows.sources import Source

_BUFFER_BYTES = 2**18
# Compressed bytes that zstandard gets at a time. They may stand for thousands of times as many.
_CHUNK_BYTES = 2**14
_SKIPPED_FRAME = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")
# The longest beginning that is looked at: it holds the header of a CSV file.
_HEAD_BYTES = 2**16
# What a library raises if compressed data is damaged or ends early. gzip raises OSError as well.
_DAMAGED = (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, zstandard.ZstdError)


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
        decompressor = _decompressor(head)
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
    except _DAMAGED as error:
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


def _decompressor(head: bytes) -> Callable[[io.BufferedReader], Any] | None:
    if head.startswith(b"\x1f\x8b"):
        return lambda data: gzip.GzipFile(fileobj=data)
    if head.startswith(b"BZh"):
        return lambda data: _Concatenated(data, bz2.BZ2Decompressor)
    if head.startswith(b"\xfd7zXZ\0"):
        return lambda data: _Concatenated(data, _xz, padding=b"\0")
    # A file of zstandard may begin with a frame to be skipped: pzstd writes such files.
    if head.startswith(b"\x28\xb5\x2f\xfd") or _SKIPPED_FRAME.match(head):
        return _Zstandard
    return None


def _xz() -> Any:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ)


class _Concatenated(io.RawIOBase):
    """Decompresses streams of bzip2 or xz that follow each other, as pbzip2 and pixz write them.

    The library's own files take a later stream that is damaged for trailing garbage, and end there.
    """

    def __init__(
        self, file: io.BufferedReader, make: Callable[[], Any], padding: bytes = b""
    ) -> None:
        self._file = file
        self._make = make
        self._padding = padding  # bytes that may stand between streams
        self._stream = make()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        ready = b""
        while not ready:
            data = b""
            if self._stream.eof:
                data = self._next_stream()
                if not data:
                    return 0
                self._stream = self._make()
            elif self._stream.needs_input:
                data = self._file.read1(_CHUNK_BYTES)
                if not data:
                    raise EOFError("its last stream is not complete")
            ready = self._stream.decompress(data, len(buffer))
        buffer[: len(ready)] = ready
        return len(ready)

    def _next_stream(self) -> bytes:
        """Return the first bytes of the next stream, or none at the end of the file."""
        data: bytes = self._stream.unused_data.lstrip(self._padding)
        while not data and (more := self._file.read1(_CHUNK_BYTES)):
            data = more.lstrip(self._padding)
        return data


class _Zstandard(io.RawIOBase):
    """Decompresses zstandard. The library's own reader takes a file that ends early for whole."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._is_between_frames = True
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            data = b""
            if self._frame.eof:
                data = self._frame.unused_data
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            data = data or self._file.read1(_CHUNK_BYTES)
            if not data:
                if self._is_between_frames:
                    return 0
                raise EOFError("its last frame is not complete")
            self._ready = memoryview(self._frame.decompress(data))
            self._is_between_frames = self._frame.eof
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

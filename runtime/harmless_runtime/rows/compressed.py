"""Decompress gzip, bzip2, xz and zstandard, which are recognised by their first bytes."""

import bz2
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable
from typing import Any

import zstandard

# What a library raises if compressed data is damaged or ends early. gzip raises OSError as well.
DAMAGED = (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, zstandard.ZstdError)
# Compressed bytes that zstandard gets at a time. They may stand for thousands of times as many.
_CHUNK_BYTES = 2**14
_SKIPPED_FRAME = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")


def decompressor_of(head: bytes) -> Callable[[io.BufferedReader], Any] | None:
    """Return what decompresses a file that begins so, or None if it is not compressed."""
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


def beginning_of(head: bytes, most: int) -> bytes | None:
    """Decompress the first bytes of a file, as far as they go.

    Args:
        head: the first bytes.
        most: bytes that are returned at most.

    Returns:
        The first bytes of the content, those of a file that is not compressed as they are. None
        means that more of the file is needed, or that it is damaged.
    """
    decompressor = decompressor_of(head)
    if decompressor is None:
        return head[:most]
    file = decompressor(io.BufferedReader(io.BytesIO(head)))
    # One read at most: a second one would come to the end of these bytes, which is too early.
    read = file.read1 if isinstance(file, gzip.GzipFile) else file.read
    try:
        return bytes(read(most))
    except (*DAMAGED, OSError):
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

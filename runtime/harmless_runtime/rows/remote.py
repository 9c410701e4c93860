"""Look at, list and open files that are elsewhere, through fsspec: https, s3, gs, hf and more."""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast
from urllib.parse import unquote, urlsplit

from harmless_runtime.errors import ConfigError, InputError, one_line

_INSTALL = "pip install '.[remote]' in the project's folder"
# Where file systems tell what changes if a file does. The first that is there is taken.
_VERSIONS = (
    "ETag", "etag", "blob_id", "generation", "Content-MD5", "Digest", "Last-Modified",
    "LastModified", "last_modified", "updated", "mtime", "created",
)  # fmt: skip
_ATTEMPTS = 5
_LOCAL = re.compile(r"(file|local)://(localhost(?=/))?", re.IGNORECASE)

# Requests to a server at a time, if nothing is asked for but what its files are.
_REQUESTS = 16

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True)
class Facts:
    """What is known of a remote file without reading it. Each may be unknown."""

    size: int | None
    version: str | None


def is_remote(where: str) -> bool:
    """Return whether an input's name is a URL."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", where) is not None


def local_path(name: str) -> str:
    """Return the path that a file:// URL stands for. Any other name is returned as it is.

    A path that exists is taken as it is written. In any other one, %20 and the like are decoded.

    Raises:
        InputError: the URL names no path.
    """
    match = _LOCAL.match(name)
    if match is None:
        return name
    path = name[match.end() :]
    if not path:
        raise InputError(f"{name} names no file")
    return path if Path(path).exists() else unquote(path, errors="surrogateescape")


def place_of(url: str) -> tuple[type, str]:
    """Return what is equal for all URLs of the same place: s3a:// is s3://, for example.

    Raises:
        ConfigError: as `file_system`.
    """
    fs, path = file_system(url)
    return type(fs), path


def path_of(url: str) -> str:
    """Return a URL's path, whose suffix says what the file is."""
    return urlsplit(url).path if url.startswith("http") else url


def look_at(url: str) -> Facts:
    """Return the size and the version of a remote file.

    Raises:
        InputError: it is not there, or cannot be reached.
        ConfigError: a package for this kind of URL is missing.
    """
    fs, path = file_system(url)
    with _errors_named(url):
        fs.invalidate_cache()  # the file may have changed since it was last looked at
        info = fs.info(path)
    version = next((str(info[key]) for key in _VERSIONS if info.get(key)), None)
    return Facts(info.get("size"), version)


def first_bytes(url: str, most: int, size: int | None) -> bytes:
    """Return the first bytes of a remote file.

    Args:
        url: the file.
        most: bytes that are returned at most.
        size: its bytes, if they are known.

    Raises:
        InputError, ConfigError: as `look_at`.
    """
    if size == 0:  # stores refuse to send a part of nothing
        return b""
    fs, path = file_system(url)

    def read() -> bytes:
        if not _is_web(fs):
            return bytes(fs.cat_file(path, start=0, end=most))
        # A server that does not send parts would send the whole file.
        with fs.open(path, "rb", block_size=0, size=size) as file:
            found = b""
            while len(found) < most and (more := file.read(most - len(found))):
                found += more
            return found

    with _errors_named(url):
        return repeated(read)


def at_once(look: Callable[[S], T], items: Sequence[S]) -> Iterator[T]:
    """Look at remote files in order, at several of them at a time."""
    with ThreadPoolExecutor(max(1, min(len(items), _REQUESTS))) as threads:
        yield from threads.map(look, items)


def files_matching(url: str) -> list[str] | None:
    """Return the URLs of the files that match a pattern, sorted. None means that it is no pattern.

    Raises:
        InputError, ConfigError: as `look_at`.
    """
    fs, path = file_system(url)
    # On a web server ? and [ may be part of a URL.
    if _is_web(fs) or not any(mark in path for mark in "*?["):
        return None
    with _errors_named(url):
        # A name may hold these marks itself.
        found = [path] if fs.exists(path) else fs.glob(path)
    return sorted(map(fs.unstrip_protocol, found))


def files_in(url: str) -> list[str] | None:
    """Return the URLs of the files in a folder and its folders, sorted. None means no folder.

    Raises:
        InputError, ConfigError: as `look_at`.
    """
    fs, path = file_system(url)
    if _is_web(fs):
        return None
    with _errors_named(url):
        return sorted(map(fs.unstrip_protocol, fs.find(path))) if fs.isdir(path) else None


def below(folder: str, url: str) -> str:
    """Return the path of a file below a folder, or its own name if it is not in the folder."""
    if url.startswith("http"):
        return path_of(url).rsplit("/", 1)[-1]
    # The same place may have several URLs: s3a:// is s3://.
    path = file_system(url)[1]
    start = file_system(folder)[1].rstrip("/") + "/"
    return path.removeprefix(start) if path.startswith(start) else path.rsplit("/", 1)[-1]


def open_file(url: str) -> BinaryIO:
    """Open a remote file for reading. If its server sends parts, a failed read is repeated.

    Raises:
        OSError: it is gone, or cannot be reached.
    """
    fs, path = file_system(url)
    try:
        parts = _sends_parts(fs, path)
        file = fs.open(path, "rb") if parts else fs.open(path, "rb", block_size=0)
    except Exception as error:  # each file system has its own
        raise OSError(reason_of(error)) from error
    return cast("BinaryIO", _RemoteFile(file, parts))


class _RemoteFile(io.RawIOBase):
    """Reads a file of fsspec. A read that fails is repeated, unless the file is a stream."""

    def __init__(self, file: Any, seekable: bool) -> None:
        self._file = file
        self._seekable = seekable

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._seekable

    def readinto(self, buffer: Any) -> int:
        # A failed read leaves the position of the file where it was.
        data = self._repeated(lambda: self._file.read(len(buffer)))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def _repeated(self, read: Callable[[], T]) -> T:
        try:
            return repeated(read) if self._seekable else read()
        except Exception as error:
            raise OSError(reason_of(error)) from error


def repeated(action: Callable[[], T]) -> T:
    """Do something that may fail for a while, up to five times, and wait in between."""
    from tenacity import Retrying, stop_after_attempt, wait_exponential

    attempts = Retrying(
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_exponential(multiplier=0.5, max=20),
        reraise=True,
    )
    return attempts(action)


def file_system(url: str) -> tuple[Any, str]:
    """Return the file system of fsspec for a URL, and the path in it.

    Raises:
        ConfigError: a package for this kind of URL is missing, or its kind is unknown.
    """
    try:
        import tenacity  # noqa: F401 - it is needed later, and belongs to the same extra
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise ConfigError(
            f"{url} needs a package that is missing: {error.name}", _INSTALL
        ) from None
    try:
        fs, path = url_to_fs(url)
    except ImportError as error:
        raise ConfigError(f"{url} needs a package that is missing: {error}", _INSTALL) from None
    except ValueError as error:
        raise ConfigError(f"{url} is of an unknown kind: {one_line(error)}") from None
    return fs, path


def _is_web(fs: Any) -> bool:
    return "http" in fs.protocol


def _sends_parts(fs: Any, path: str) -> bool:
    """Return whether a web server sends a part of a file if it is asked to, as others all do."""
    if not _is_web(fs):
        return True
    try:
        return len(fs.cat_file(path, start=1, end=3)) == 2
    except Exception:
        return False


@contextmanager
def _errors_named(url: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # each file system has its own
        raise InputError(f"cannot read {url}: {reason_of(error)}") from error


def reason_of(error: BaseException) -> str:
    """Return why a remote file cannot be read, on one line."""
    if isinstance(error, FileNotFoundError):
        # fsspec's HTTP gives this for every status that is an error.
        status = getattr(error.__cause__, "status", 404)
        return "there is no such file" if status == 404 else one_line(error.__cause__)
    return one_line(error) or type(error).__name__

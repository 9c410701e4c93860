"""Put whole files into object stores. An object appears under its name when all of it is there."""

import hashlib
import logging
from pathlib import Path

from harmless_runtime.cache import cache_folder
from harmless_runtime.errors import OutputError
from harmless_runtime.rows import remote
from harmless_runtime.rows.sources import valid_text

logger = logging.getLogger(__name__)

# Stores in which an upload becomes an object in one step. Other file systems show a file while it
# grows.
_STORES = {"s3", "s3a", "gs", "gcs", "hf", "az", "abfs", "abfss", "oci", "oss", "memory"}


def staging_path(url: str) -> Path:
    """Return where the files of an output are on this machine until they are put into a store.

    It depends on the URL alone, so that the same command finds what an interrupted one has left.
    """
    digest = hashlib.sha256(url.encode()).hexdigest()[:16]
    return cache_folder() / "outputs" / digest / url.rstrip("/").rpartition("/")[2]


def check_store(url: str) -> None:
    """Raise an error unless objects can be put where a URL points to.

    Raises:
        OutputError: it is no object store, or the URL names no object in it.
        ConfigError: a package for this kind of URL is missing.
    """
    check_object_name(url)
    kind = url.partition("://")[0].lower()
    if kind not in _STORES:
        raise OutputError(
            f"{url} is not in an object store, so that others could read it before it is whole",
            "write a local file, and copy it; or name an object of s3://, gs:// or hf://",
        )
    _, path = remote.file_system(url)
    names = path.strip("/")
    if not names or ("/" not in names and kind != "memory"):
        raise OutputError(f"{url} names no object", "add a name: BUCKET/FOLDER/NAME")


def check_object_name(url: str) -> None:
    """Raise OutputError if a URL is not valid UTF-8, because no store has such names."""
    if valid_text(url) != url:
        raise OutputError(
            f"{valid_text(url)} is not valid UTF-8, as the names of objects are",
            "choose another name",
        )


def object_size(url: str) -> int | None:
    """Return the bytes of an object, or None if there is none.

    Raises:
        OutputError: the store cannot be asked.
    """
    fs, path = remote.file_system(url)
    try:
        fs.invalidate_cache()
        return int(fs.info(path)["size"]) if fs.exists(path) else None
    except Exception as error:  # each file system has its own
        raise OutputError(f"cannot look at {url}: {remote.reason_of(error)}") from error


def hash_of_object(url: str) -> str:
    """Return the SHA-256 of an object, which is read for that.

    Raises:
        OutputError: it cannot be read.
    """
    fs, path = remote.file_system(url)
    digest = hashlib.sha256()
    try:
        with fs.open(path, "rb") as file:
            while chunk := file.read(2**20):
                digest.update(chunk)
    except Exception as error:
        raise OutputError(f"cannot read {url}: {remote.reason_of(error)}") from error
    return digest.hexdigest()


def read_object(url: str) -> bytes | None:
    """Return the content of a small object, or None if there is none.

    Raises:
        OutputError: it cannot be read.
    """
    if object_size(url) is None:
        return None
    fs, path = remote.file_system(url)
    try:
        return bytes(fs.cat_file(path))
    except Exception as error:
        raise OutputError(f"cannot read {url}: {remote.reason_of(error)}") from error


def put_object(path: Path, url: str) -> None:
    """Put a file into a store. An upload that fails is repeated.

    Raises:
        OutputError: it cannot be written, or what is there then has another size.
    """
    fs, name = remote.file_system(url)
    size = path.stat().st_size
    logger.info("putting %s (%.1f MB)", url, size / 1e6)
    try:
        remote.repeated(lambda: fs.put_file(str(path), name))
    except Exception as error:
        raise OutputError(f"cannot write {url}: {remote.reason_of(error)}") from error
    if (there := object_size(url)) != size:
        raise OutputError(f"{url} has {there} bytes after {size} were put there")


def remove_object(url: str) -> None:
    """Remove an object, if there is one.

    Raises:
        OutputError: it cannot be removed.
    """
    if object_size(url) is None:
        return
    fs, path = remote.file_system(url)
    try:
        fs.rm_file(path)
    except Exception as error:
        raise OutputError(f"cannot remove {url}: {remote.reason_of(error)}") from error

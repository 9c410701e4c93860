"""Do the file operations of a run, one function each, so that tests can crash between any two.

Appended data survives a power cut once its file was synchronised. A new, renamed or removed name
survives once its folder was synchronised.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from harmless_runtime.errors import OutputError


def append(file: BinaryIO, content: bytes) -> None:
    """Write at the end of an open file, and hand the data to the operating system."""
    file.write(content)
    file.flush()


def sync(file: BinaryIO) -> None:
    """Wait until everything appended to a file is on the disk."""
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # the file system cannot synchronise folders
            raise
    finally:
        os.close(descriptor)


def rename(source: Path, target: Path) -> None:
    """Rename a file in a single step, replacing a file that has the new name."""
    source.replace(target)


def remove(path: Path) -> None:
    """Remove a file, if it exists."""
    path.unlink(missing_ok=True)


def truncate(file: BinaryIO, size: int) -> None:
    """Cut an open file to a size, and go on writing from there."""
    file.truncate(size)
    file.seek(size)


def is_taken(path: Path) -> bool:
    """Return whether something has this name, be it a link that leads nowhere."""
    return path.exists() or path.is_symlink()


def temporary(path: Path) -> Path:
    """Return the name that `replace` gives a file until it is whole."""
    return path.with_name(path.name + ".tmp")


def open_temporary(path: Path) -> BinaryIO:
    """Open an empty file under the name that another has until it is whole."""
    # A link that has come under this name is not followed.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    return os.fdopen(os.open(temporary(path), flags, 0o666), "wb")


def replace(path: Path, content: bytes) -> None:
    """Write a small file. After a crash it has either its old content or the new one, whole."""
    with open_temporary(path) as file:
        append(file, content)
        sync(file)
    rename(temporary(path), path)
    sync_folder(path.parent)


@contextmanager
def os_errors_named(output: Path, hint: str | None = None) -> Iterator[None]:
    """Turn an error of the operating system into one sentence that names the output."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error.strerror}", hint) from error

"""Bytes to the disk, one step at a time: what a crash can come between.

A name is only on the disk when its folder was synchronised, and bytes when their file was.
"""

import errno
import os
from pathlib import Path
from typing import BinaryIO


def append(file: BinaryIO, content: bytes) -> None:
    """Write at the end of an open file, as far as the operating system."""
    file.write(content)
    file.flush()


def sync(file: BinaryIO) -> None:
    """Wait until what was appended is on the disk."""
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that has no such thing
            raise
    finally:
        os.close(descriptor)


def rename(source: Path, target: Path) -> None:
    """Give a file another name, in place of what has it, in a single step."""
    source.replace(target)


def remove(path: Path) -> None:
    """Remove a name, if it is there."""
    path.unlink(missing_ok=True)


def truncate(file: BinaryIO, size: int) -> None:
    """Cut an open file off, and go on from there."""
    file.truncate(size)
    file.seek(size)


def temporary(path: Path) -> Path:
    """What `replace` calls a file until it is whole."""
    return path.with_name(path.name + ".tmp")


def replace(path: Path, content: bytes) -> None:
    """Write a small file so that it is on the disk whole, with its old content or the new."""
    whole = temporary(path)
    with whole.open("wb") as file:
        append(file, content)
        sync(file)
    rename(whole, path)
    sync_folder(path.parent)

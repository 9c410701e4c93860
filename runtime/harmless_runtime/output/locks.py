"""Open files without losing their content, and lock them against other runs."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from harmless_runtime.errors import OutputError


def is_still_at(file: BinaryIO, path: Path) -> bool:
    """Return whether `path` still refers to this open file, and was not removed or replaced."""
    return path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())


def open_without_truncating(path: Path) -> BinaryIO:
    """Open a file for reading and writing. Create it if it is missing, and keep what is in it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    return os.fdopen(descriptor, "r+b", buffering=2**20)


@contextmanager
def held_lock(path: Path) -> Iterator[None]:
    """Lock a file against other runs for as long as the block runs, and remove it afterwards.

    Raises:
        OutputError: another run holds the lock.
    """
    with open_without_truncating(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another run may have finished in between, and removed this file.
            if not is_still_at(file, path):
                raise BlockingIOError
        except BlockingIOError:
            raise OutputError(
                f"another run is writing this output ({path})",
                "wait until it ends, or choose another output",
            ) from None
        try:
            yield
        finally:
            # Unlink before unlocking: a run that has opened this file by now then sees that it
            # lost its name, and gives up.
            with suppress(OSError):
                if is_still_at(file, path):
                    path.unlink()

"""Files opened without losing what is in them, and locked against other runs."""

import fcntl
import os
from pathlib import Path
from typing import BinaryIO

from harmless_runtime.errors import OutputError


def is_called(file: BinaryIO, path: Path) -> bool:
    """Tell whether an open file still has a name."""
    return path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())


def open_kept(path: Path) -> BinaryIO:
    """Open a file for writing, made if need be and left as it is."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    return os.fdopen(descriptor, "r+b", buffering=2**20)


def lock(path: Path) -> BinaryIO:
    """Lock a file, made if need be, against other runs until it is closed.

    Raises:
        OutputError: another run has locked it.
    """
    file = open_kept(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Another run may have finished in between, and removed the name.
        if not is_called(file, path):
            raise BlockingIOError
    except BlockingIOError:
        file.close()
        raise OutputError(f"another run is writing this output ({path})") from None
    except BaseException:
        file.close()
        raise
    return file

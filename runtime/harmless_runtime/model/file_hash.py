"""Compare the files of an artifact with their hashes, large ones while something else is done."""

import hashlib
import os
import threading
from pathlib import Path

from harmless_runtime.errors import ArtifactError


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    Raises:
        ArtifactError: the file is missing or cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise ArtifactError(f"the artifact is incomplete: {path} is missing") from None
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}") from error


def check_hash(path: Path, expected: str) -> None:
    """Raise ArtifactError unless a file has a SHA-256, which is given in hexadecimal."""
    if sha256_of(path) != expected:
        raise ArtifactError(
            f"{path} is not the file that was exported: its SHA-256 differs",
            "export or copy the artifact again",
        )


class HashCheck:
    """Compares a file with its SHA-256 in a thread, which begins at once.

    Args:
        path: the file.
        expected: its SHA-256 in hexadecimal.
    """

    def __init__(self, path: Path, expected: str) -> None:
        self._arguments = path, expected
        self._error: ArtifactError | None = None
        self._is_done = False
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._check, name="hash", daemon=True)
        self._thread.start()

    def _check(self) -> None:
        try:
            check_hash(*self._arguments)
        except ArtifactError as error:
            self._error = error
        except BaseException as error:
            self._error = ArtifactError(f"cannot compare {self._arguments[0]}: {error!r}")
        self._is_done = True

    def wait(self) -> None:
        """Wait until the file is compared.

        Raises:
            ArtifactError: it has another hash, or cannot be read.
        """
        if not self._is_done:
            if os.getpid() == self._process:
                self._thread.join()
            else:  # a child that `fork` made has no such thread
                self._check()
        if self._error is not None:
            raise self._error

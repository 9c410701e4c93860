"""Append to one growing file of results, and know what is in it."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from harmless_runtime.errors import OutputError
from harmless_runtime.output import disk
from harmless_runtime.output.locks import is_still_at, open_without_truncating
from harmless_runtime.output.state import START_AGAIN, Claim

if TYPE_CHECKING:
    from hashlib import _Hash


@dataclass
class Part:
    """A `.partial` file that is open, and the SHA-256 of its content."""

    path: Path
    file: BinaryIO
    digest: "_Hash"

    def cut(self, claim: Claim) -> None:
        """Cut off what a crash left beyond a claim.

        Raises:
            OutputError: the file does not hold what is claimed.
        """
        self.digest = hashlib.sha256()
        self.file.seek(0)
        left = claim.size
        while left > 0 and (chunk := self.file.read(min(left, 2**20))):
            self.digest.update(chunk)
            left -= len(chunk)
        if self.digest.hexdigest() != claim.sha256:
            raise OutputError(
                f"{self.path} has lost or changed some of its first {claim.size:,} bytes",
                START_AGAIN,
            )
        disk.truncate(self.file, claim.size)

    def append(self, content: bytes) -> None:
        """Add to the end of the file."""
        disk.append(self.file, content)
        self.digest.update(content)

    def sync(self) -> Claim:
        """Wait until all is on the disk; return what can now be claimed."""
        disk.sync(self.file)
        return Claim(os.fstat(self.file.fileno()).st_size, self.digest.hexdigest())

    def check_name(self) -> None:
        """Raise OutputError if the file has lost its name since it was opened."""
        if not is_still_at(self.file, self.path):
            raise OutputError(f"{self.path} was removed or replaced during the run")


def open_part(path: Path) -> Part:
    """Open a file of results, which may have been begun by an earlier run."""
    return Part(path, open_without_truncating(path), hashlib.sha256())

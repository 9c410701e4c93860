"""Keep the results of pieces where all machines reach them: in a folder or in an object store."""

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast
from uuid import uuid4

from harmless_runtime import object_store
from harmless_runtime.output import disk
from harmless_runtime.rows import remote
from harmless_runtime.rows.beside import ATTEMPT

_BUFFER_BYTES = 2**20


def attempt_name(piece: int) -> str:
    """Return a name for the folder of an attempt at a piece that no other attempt has."""
    return f"{piece:06d}-{uuid4().hex[:12]}"


@dataclass(frozen=True)
class Storage:
    """A place for the files of attempts, each in a folder of its attempt.

    A file is written once, and never locked, renamed or appended to.

    Attributes:
        where: an absolute path, or the URL of a folder in an object store.
    """

    where: str

    @property
    def is_remote(self) -> bool:
        """Whether it is an object store."""
        return remote.is_remote(self.where)

    def put(self, file: Path, attempt: str, name: str) -> None:
        """Copy a file into the folder of an attempt, and wait until it is there.

        Raises:
            OutputError: the store cannot be written.
            OSError: the disk is full, or failed.
        """
        if self.is_remote:
            object_store.put_object(file, f"{self.where}/{attempt}/{name}")
            return
        folder = Path(self.where, attempt)
        folder.mkdir(parents=True, exist_ok=True)
        with file.open("rb") as source, (folder / name).open("xb") as target:
            shutil.copyfileobj(source, target, _BUFFER_BYTES)
            target.flush()
            disk.sync(target)
        disk.sync_folder(folder)
        disk.sync_folder(folder.parent)

    def size(self, attempt: str, name: str) -> int | None:
        """Return the bytes of a file, or None if it is not there.

        Raises:
            OutputError: the store cannot be asked.
        """
        if self.is_remote:
            return object_store.object_size(f"{self.where}/{attempt}/{name}")
        path = Path(self.where, attempt, name)
        return path.stat().st_size if path.exists() else None

    @contextmanager
    def open(self, attempt: str, name: str) -> Iterator[BinaryIO]:
        """Open a file for reading.

        Raises:
            OSError: it is gone, or cannot be read.
        """
        if self.is_remote:
            raw = remote.open_file(f"{self.where}/{attempt}/{name}")
            with io.BufferedReader(cast("io.RawIOBase", raw), _BUFFER_BYTES) as file:
                yield file
            return
        with Path(self.where, attempt, name).open("rb", _BUFFER_BYTES) as local:
            yield local

    def remove_attempts(self) -> None:
        """Remove the files of all attempts. What has other names is left alone.

        Raises:
            OutputError: the store cannot be written.
            OSError: the disk failed.
        """
        if self.is_remote:
            for url in remote.files_in(self.where) or []:
                if ATTEMPT.fullmatch(remote.below(self.where, url).split("/")[0]):
                    object_store.remove_object(url)
            return
        folder = Path(self.where)
        for attempt in list(folder.iterdir()) if folder.is_dir() else []:
            if ATTEMPT.fullmatch(attempt.name) and attempt.is_dir() and not attempt.is_symlink():
                shutil.rmtree(attempt)

"""Scored windows to files: lines in input order, under their final names only when complete."""

import fcntl
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np

from harmless_runtime.errors import OutputError
from harmless_runtime.records import Reject
from harmless_runtime.tokenization import Encoded


def rejects_path(output: Path) -> Path:
    """Return where the rejects of an output go: `x.rejects.jsonl` for `x.jsonl`."""
    if output.suffix == ".jsonl":
        return output.with_suffix(".rejects.jsonl")
    return output.with_name(output.name + ".rejects")


def score_line(row_id: bytes, score: np.float32, details: Encoded | None) -> bytes:
    """One line of output; the score is the shortest text that reads back as the same float32.

    Args:
        row_id: the id as JSON text, copied as it is.
        score: the reward, finite.
        details: with it, the line also tells the row's tokens and whether it was truncated.
    """
    more = ""
    if details is not None:
        truncated = "true" if details.truncated else "false"
        more = f', "tokens": {len(details.ids)}, "truncated": {truncated}'
    # An object as id may hold line breaks, which mean nothing in JSON between tokens.
    safe_id = row_id.replace(b"\r", b" ")
    return b'{"id": %b, "score": %b%b}\n' % (safe_id, str(score).encode(), more.encode())


def check_free(output: Path, overwrite: bool, sources: Sequence[str]) -> None:
    """Raise OutputError where an output, or its rejects, could not get their final names.

    An input is never written over, whatever `overwrite` says.
    """
    if not output.name:
        raise OutputError(f"{str(output)!r} is not the name of a file")
    if not output.parent.is_dir():
        raise OutputError(f"the folder {output.parent} does not exist")
    finals = (output, rejects_path(output))
    for path in (*finals, *map(_partial, finals)):
        if not (path.exists() or path.is_symlink()):
            continue
        if path.is_symlink() or not path.is_file():
            raise OutputError(f"{path} is not a regular file, and has to be one")
        for source in sources:
            if Path(source).exists() and path.samefile(source):
                raise OutputError(f"{path} is an input, and would be written over")
        if not overwrite:
            raise OutputError(
                f"{path} exists: choose another name, or pass --overwrite (overwrite=True)"
            )


class OutputFiles:
    """The scores file and the rejects file of one run, each written beside its final name.

    Used as a context manager: leaving it normally renames both into place; leaving it with an
    exception leaves the final names as they were, and the rows so far under `.partial`.

    Raises:
        OutputError: a final name is taken and `overwrite` is false, or is that of one of the
            `sources`, or writing fails.
    """

    def __init__(self, output: Path, overwrite: bool, sources: Sequence[str]) -> None:
        self.output = output
        self.rejects = rejects_path(output)
        check_free(output, overwrite, sources)
        self._scores_file = _create(_partial(self.output))
        self._rejects_file = _create(_partial(self.rejects))
        self._overwrite = overwrite
        self._any_rejects = False

    def __enter__(self) -> Self:
        return self

    def write(self, lines: Sequence[bytes], rejects: Sequence[Reject]) -> None:
        """Append one window's lines and rejects."""
        try:
            self._scores_file.writelines(lines)
            self._rejects_file.writelines(reject.to_json() for reject in rejects)
        except OSError as error:
            raise OutputError(f"cannot write {self.output}: {error.strerror}") from error
        self._any_rejects = self._any_rejects or bool(rejects)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            for file in (self._scores_file, self._rejects_file):
                file.flush()
                os.fsync(file.fileno())
            if error is None:
                self._check_still_free()
                # The scores last: their name says that the run is complete.
                if self._any_rejects:
                    _partial(self.rejects).replace(self.rejects)
                else:
                    self.rejects.unlink(missing_ok=True)
                _partial(self.output).replace(self.output)
            elif not self._scores_file.tell():
                _partial(self.output).unlink()  # nothing in it is worth keeping
            if not self._any_rejects:
                _partial(self.rejects).unlink(missing_ok=True)
        except OSError as failure:
            if error is None:
                raise OutputError(f"cannot write {self.output}: {failure.strerror}") from failure
        finally:
            # Last, because closing gives up the locks.
            for file in (self._scores_file, self._rejects_file):
                with suppress(OSError):
                    file.close()

    def _check_still_free(self) -> None:
        for path in (self.output, self.rejects):
            if path.exists() and not self._overwrite:
                raise OutputError(
                    f"{path} has appeared during the run and is left alone: the scores are in "
                    f"{_partial(self.output)}"
                )


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _create(path: Path) -> BinaryIO:
    """Open a file for writing, emptied once it is locked against other runs."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        file = os.fdopen(descriptor, "wb")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another run may have finished in between, and given the file its final name.
            if not os.path.samestat(os.fstat(descriptor), path.stat()):
                raise BlockingIOError
            file.truncate()
        except BaseException:
            file.close()
            raise
    except BlockingIOError:
        raise OutputError(f"another run is writing {path}") from None
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    return file

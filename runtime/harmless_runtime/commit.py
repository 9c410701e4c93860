"""Windows of results to files that no crash can spoil, under their final names when all are there.

Results are appended to `….partial` files, and from time to time a commit puts on the disk, in this
order: those bytes, and a state that claims them for so many lines of input. At the end a state that
says `complete` comes before the final names, and goes after them. What a crash leaves beyond the
state is cut off by `--resume`, and done again.
"""

import fcntl
import math
import os
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from harmless_runtime import disk
from harmless_runtime.errors import OutputError
from harmless_runtime.output import OutputPaths, check_free
from harmless_runtime.records import Line, Reject
from harmless_runtime.state import (
    FORMAT_VERSION,
    Consumed,
    Fingerprint,
    State,
    check_fingerprint,
    read_state,
    write_state,
)

# Seconds between commits: what a crash costs at most, beside the windows that it interrupts. A
# commit waits some hundredths of a second for the disk.
_COMMIT_SECONDS = 5


class OutputFiles:
    """The scores and the rejects of one run, committed window by window.

    Used as a context manager: leaving it normally gives both files their final names; leaving it
    with an exception commits what was written, for a later run to resume.

    Args:
        output: where the scores go.
        sources: the inputs, which are never written over.
        fingerprint: what the run is a run of.
        overwrite: start again, and replace what is there.
        resume: go on with what is there; with nothing there, start.

    Raises:
        OutputError: a name is taken, another run is at it, the state to be resumed is that of
            another run or damaged, or writing fails.
    """

    def __init__(
        self,
        output: Path,
        sources: Sequence[str],
        fingerprint: Fingerprint,
        *,
        overwrite: bool = False,
        resume: bool = False,
    ) -> None:
        check_free(output, sources, overwrite=overwrite, resume=resume)
        self.paths = OutputPaths(output)
        self.consumed = Consumed()
        self.resumed: State | None = None
        self._fingerprint = dict(fingerprint)
        self._pending = self._torn = False
        self._last_commit = -math.inf
        self._writing = threading.Lock()
        self._files: dict[Path, BinaryIO] = {}
        try:
            self._begin(overwrite=overwrite, resume=resume)
        except OSError as error:
            self._close()
            raise OutputError(f"cannot write {output}: {error.strerror}") from error
        except BaseException:
            self._close()
            raise
        self._replace = self.resumed.replace if self.resumed else overwrite
        self._counts: Mapping[str, int] = self.resumed.counts if self.resumed else {}

    @property
    def complete(self) -> bool:
        """Whether a resumed run lacks nothing but the final names."""
        return self.resumed is not None and self.resumed.complete

    def _begin(self, *, overwrite: bool, resume: bool) -> None:
        """Lock the files, read the state, and cut off what it does not claim."""
        paths = self.paths
        # Locked before the state is read: until then, another run may go on writing both.
        for path in paths.partials:
            if path.exists() or not paths.state.exists():
                self._files[path] = _open_locked(path)
        if resume:
            self.resumed = read_state(paths.state)
        elif paths.state.exists() and not overwrite:
            raise OutputError(f"another run has just left {paths.state}: pass --resume to go on")
        if self.resumed is None:
            # Before anything is cut off, so that no state ever claims what is not there.
            disk.remove(paths.state)
            disk.sync_folder(paths.scores.parent)
        else:
            check_fingerprint(paths.state, self.resumed.fingerprint, self._fingerprint)
            if self.resumed.complete:
                return
        sizes = (self.resumed.scores_bytes, self.resumed.rejects_bytes) if self.resumed else (0, 0)
        for path, size in zip(paths.partials, sizes, strict=True):
            if path not in self._files:
                self._files[path] = _open_locked(path)
            if os.fstat(self._files[path].fileno()).st_size < size:
                raise OutputError(
                    f"{path} has lost some of its {size:,} bytes: start again with --overwrite"
                )
            disk.truncate(self._files[path], size)

    def __enter__(self) -> Self:
        return self

    def write(
        self,
        lines: Sequence[bytes],
        rejects: Sequence[Reject],
        done: Sequence[Line],
        counts: Mapping[str, int],
    ) -> None:
        """Append one window, and commit if the last commit is long ago.

        Args:
            lines: of the scores.
            rejects: the lines that got none.
            done: the lines of input that these are the results of, in their order.
            counts: what the summary will tell, these results included.
        """
        scores_file, rejects_file = (self._files[path] for path in self.paths.partials)
        try:
            with self._writing:
                self._torn = True
                disk.append(scores_file, lines)
                disk.append(rejects_file, [reject.to_json() for reject in rejects])
                self._torn = False
                self.consumed.add(done)
                self._counts = counts
                self._pending = True
                if time.monotonic() - self._last_commit >= _COMMIT_SECONDS:
                    self._commit(complete=False)
        except OSError as error:
            raise OutputError(f"cannot write {self.paths.scores}: {error.strerror}") from error

    def _commit(self, *, complete: bool) -> State:
        files = [self._files[path] for path in self.paths.partials]
        for file in files:
            disk.sync(file)
        scores_bytes, rejects_bytes = (os.fstat(file.fileno()).st_size for file in files)
        state = State(
            format_version=FORMAT_VERSION,
            fingerprint=self._fingerprint,
            lines=self.consumed.lines,
            digest=self.consumed.digest,
            scores_bytes=scores_bytes,
            rejects_bytes=rejects_bytes,
            counts=dict(self._counts),
            replace=self._replace,
            complete=complete,
        )
        write_state(self.paths.state, state)
        self._last_commit = time.monotonic()
        self._pending = False
        return state

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                _check_final_names(self.paths, replace=self._replace)
                state = self.resumed if self.complete else self._commit(complete=True)
                assert state is not None
                _settle(self.paths, state)
            else:
                with self._writing, suppress(OSError):
                    self._keep()
        except OSError as failure:
            raise OutputError(f"cannot write {self.paths.scores}: {failure.strerror}") from failure
        finally:
            self._close()  # last, because it gives up the locks

    def _keep(self) -> None:
        """Commit what a run that ends early has written."""
        if self._pending and not self._torn:
            self._commit(complete=False)
        elif not self.paths.state.exists():
            for path in self.paths.partials:  # nothing claims what is in them
                disk.remove(path)

    def _close(self) -> None:
        for file in self._files.values():
            with suppress(OSError):
                file.close()


def _check_final_names(paths: OutputPaths, *, replace: bool) -> None:
    """Raise OutputError where a file has come by a name that this run was to give."""
    for partial, final in zip(paths.partials, (paths.scores, paths.rejects), strict=True):
        if partial.exists() and final.exists() and not replace:
            raise OutputError(
                f"{final} has appeared during the run and is left alone: the scores are in "
                f"{paths.partials[0]}, and --resume names them once it is gone"
            )


def _settle(paths: OutputPaths, state: State) -> None:
    """Give the final names; after a crash between any two steps, doing all again finishes it."""
    scores, rejects = paths.partials
    if state.rejects_bytes:
        _rename(rejects, paths.rejects)
    else:
        disk.remove(rejects)
        if state.replace:
            disk.remove(paths.rejects)
    # The scores last: their name says that the run is complete.
    _rename(scores, paths.scores)
    disk.sync_folder(paths.scores.parent)
    disk.remove(disk.temporary(paths.state))
    disk.remove(paths.state)
    disk.sync_folder(paths.scores.parent)


def _rename(partial: Path, final: Path) -> None:
    if partial.exists():
        disk.rename(partial, final)


def _open_locked(path: Path) -> BinaryIO:
    """Open a file for writing, made if need be and left as it is, locked against other runs."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        file = os.fdopen(descriptor, "r+b", buffering=2**20)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another run may have finished in between, and given the file its final name.
            if not os.path.samestat(os.fstat(descriptor), path.stat()):
                raise BlockingIOError
        except BaseException:
            file.close()
            raise
    except BlockingIOError:
        raise OutputError(f"another run is writing {path}") from None
    return file

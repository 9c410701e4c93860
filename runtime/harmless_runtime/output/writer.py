"""Windows of results to files that no crash can spoil, under their final names when all are there.

Results are appended to `….partial` files, and from time to time a commit puts on the disk, in this
order: those bytes, and a state that claims them for so many lines of input. At the end a state that
says `complete` comes before the final names, and goes after them. What a crash leaves beyond the
state is cut off by `--resume`, and done again.
"""

import hashlib
import math
import os
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from harmless_runtime.errors import OutputError
from harmless_runtime.output import disk
from harmless_runtime.output.finish import check_final_names, settle
from harmless_runtime.output.locks import is_called, lock, open_kept
from harmless_runtime.output.paths import OutputPaths, check_free
from harmless_runtime.output.state import (
    Consumed,
    Fingerprint,
    State,
    check_fingerprint,
    read_state,
    write_state,
)
from harmless_runtime.rows.records import Line, Reject

# Seconds between commits: what a crash costs at most, beside the windows that it interrupts.
# benchmarks/host.py tells what share of a run commits take.
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
        self._replace = overwrite
        self._counts: Mapping[str, int] = {}
        # What was appended since the last commit; and whether a step failed, after which the disk
        # cannot be asked again: a second fsync succeeds, whatever the first has lost.
        self._pending = self._failed = False
        self._last_commit = -math.inf
        self._writing = threading.Lock()
        self._files: list[BinaryIO] = []
        self._digests = [hashlib.sha256(), hashlib.sha256()]
        self._locks: list[BinaryIO] = []
        try:
            # Held until the end, under names that no step of the protocol gives or takes.
            for path in self.paths.locks:
                self._locks.append(lock(path))
            self._begin(overwrite=overwrite, resume=resume)
        except BaseException as error:
            try:
                if self._files and self.resumed is None:
                    self._keep()
            finally:
                self._close()
            if isinstance(error, OSError):
                raise OutputError(f"cannot write {output}: {error.strerror}") from error
            raise

    @property
    def complete(self) -> bool:
        """Whether a resumed run lacks nothing but the final names."""
        return self.resumed is not None and self.resumed.complete

    def _begin(self, *, overwrite: bool, resume: bool) -> None:
        """Read the state, and cut off what it does not claim."""
        paths = self.paths
        if resume:
            self.resumed = read_state(paths.state)
        elif paths.state.exists() and not overwrite:
            raise OutputError(f"another run has just left {paths.state}: pass --resume to go on")
        state = self.resumed
        if state is None:
            # Before anything is cut off, so that no state ever claims what is not there.
            disk.remove(paths.state)
        else:
            check_fingerprint(paths.state, state.fingerprint, self._fingerprint)
            self._replace, self._counts = state.replace, state.counts
            if state.complete:
                return
        self._files = [open_kept(path) for path in paths.partials]
        disk.sync_folder(paths.scores.parent)
        for i, (file, path) in enumerate(zip(self._files, paths.partials, strict=True)):
            size, sha256 = state.claims[i] if state else (0, None)
            self._digests[i] = _digest(file, size)
            if sha256 is not None and self._digests[i].hexdigest() != sha256:
                raise OutputError(
                    f"{path} has lost or changed some of its first {size:,} bytes: start again "
                    "with --overwrite"
                )
            disk.truncate(file, size)
        if state is None and (paths.scores.exists() or paths.rejects.exists()):
            # Until the first window, only this tells that what is there is to be replaced.
            self._commit(complete=False)

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
        try:
            with self._writing:
                self._failed = True
                results = (b"".join(lines), b"".join(reject.to_json() for reject in rejects))
                for file, digest, own in zip(self._files, self._digests, results, strict=True):
                    disk.append(file, own)
                    digest.update(own)
                self.consumed.add(done)
                self._counts = counts
                self._pending = True
                if time.monotonic() - self._last_commit >= _COMMIT_SECONDS:
                    self._commit(complete=False)
                self._failed = False
        except OSError as error:
            raise OutputError(f"cannot write {self.paths.scores}: {error.strerror}") from error

    def _commit(self, *, complete: bool) -> State:
        for file in self._files:
            disk.sync(file)
        scores_bytes, rejects_bytes = (os.fstat(file.fileno()).st_size for file in self._files)
        state = State(
            fingerprint=self._fingerprint,
            lines=self.consumed.lines,
            digest=self.consumed.digest,
            scores_bytes=scores_bytes,
            scores_sha256=self._digests[0].hexdigest(),
            rejects_bytes=rejects_bytes,
            rejects_sha256=self._digests[1].hexdigest(),
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
                state = self.resumed
                if state is None or not state.complete:
                    _check_still_there(self._files, self.paths.partials)
                    state = self._commit(complete=True)
                check_final_names(self.paths, state)
                settle(self.paths, state)
            else:
                with self._writing, suppress(OSError):
                    self._keep()
        except OSError as failure:
            raise OutputError(f"cannot write {self.paths.scores}: {failure.strerror}") from failure
        finally:
            self._close()  # last, because it gives up the locks

    def _keep(self) -> None:
        """Commit what a run that ends early has written."""
        if self._pending and not self._failed:
            self._commit(complete=False)
        elif not self.paths.state.exists():
            for path in self.paths.partials:  # nothing claims what is in them
                disk.remove(path)

    def _close(self) -> None:
        for file in self._files:
            with suppress(OSError):
                file.close()
        for path, held in zip(self.paths.locks, self._locks, strict=False):
            with suppress(OSError):
                path.unlink()  # while it is held: whoever waits finds another file
            held.close()


def _digest(file: BinaryIO, size: int) -> "hashlib._Hash":
    """SHA-256 of the first bytes of a file."""
    digest = hashlib.sha256()
    file.seek(0)
    while size > 0 and (chunk := file.read(min(size, 2**20))):
        digest.update(chunk)
        size -= len(chunk)
    return digest


def _check_still_there(files: Sequence[BinaryIO], paths: Sequence[Path]) -> None:
    """Raise OutputError where what was written has lost its name."""
    for file, path in zip(files, paths, strict=True):
        if not is_called(file, path):
            raise OutputError(f"{path} was removed or replaced during the run")

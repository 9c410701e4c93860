"""Write the results of a run so that no crash spoils them.

Results are appended to `.partial` files. A commit first waits until the appended bytes are on the
disk. It then writes a state, which says how many bytes are the results of how many input lines. At
the end, a state with `complete` is written, the files get their final names, and the state is
removed. A resumed run cuts off all bytes that the state does not claim, and computes them again.
"""

import math
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from harmless_runtime.output import disk
from harmless_runtime.output.checks import check_record
from harmless_runtime.output.finish import (
    MakeFiles,
    check_final_names,
    check_free,
    finished_files,
    give_final_names,
    make_files,
    remove_stale,
)
from harmless_runtime.output.parts import Part, open_part
from harmless_runtime.output.paths import OutputPaths
from harmless_runtime.output.record import write_record
from harmless_runtime.output.state import EMPTY, Claim, Fingerprint, State, write_state
from harmless_runtime.rows.digest import InputDigest
from harmless_runtime.rows.records import Pair, Reject
from harmless_runtime.rows.sources import files_of
from harmless_runtime.run import Run
from harmless_runtime.scores.targets import targets_of


class Output:
    """The scores and rejects of one run, as `open_output` gives them to be written.

    Attributes:
        run: what was asked for.
        paths: the names of all files.
        resumed: the state that an interrupted run left, if this run continues one.
        done: the rows whose results were written. If this run continues an incomplete one,
            the caller has to call `skip_finished` before it writes.
    """

    def __init__(self, run: Run, fingerprint: Fingerprint, resumed: State | None) -> None:
        self.run = run
        self.paths = OutputPaths(run.output, run.is_folder)
        self.resumed = resumed
        self.done = InputDigest()
        self._fingerprint = dict(fingerprint)
        self._commit_seconds = run.commit_seconds
        self._replace = resumed.replace if resumed else run.existing == "overwrite"
        self._counts: Mapping[str, int] = resumed.counts if resumed else {}
        self._parts: list[Part] = []
        # Data was appended since the last commit.
        self._pending = False
        # True while a write runs, and for ever if a write fails. After a failure nothing is
        # committed, because a later fsync can succeed although data was lost.
        self._failed = False
        self._last_commit = -math.inf
        self._has_state = resumed is not None
        # The state claims nothing, and goes with the results if they are given up.
        self._is_announced = False
        self._writing = threading.Lock()

    @property
    def is_complete(self) -> bool:
        """Whether all results of a resumed run are there, and only the final names are missing."""
        return self.resumed is not None and self.resumed.complete

    def write(
        self,
        scores: bytes,
        rejects: bytes,
        rows: Sequence[Pair | Reject],
        counts: Mapping[str, int],
    ) -> None:
        """Append the results of one window, and commit if `commit_seconds` have passed.

        Args:
            scores: lines for the scores file.
            rejects: lines for the rejects file.
            rows: the rows that these are the results of, in order.
            counts: the figures for the summary, up to this window.

        Raises:
            OutputError: the disk is full, or failed; or the final name of the scores was taken.
        """
        part = InputDigest()
        part.add(rows)
        self.write_part([scores], [rejects], part, counts)

    def write_part(
        self,
        scores: Iterable[bytes],
        rejects: Iterable[bytes],
        rows: InputDigest,
        counts: Mapping[str, int],
    ) -> None:
        """Append results, and commit if `commit_seconds` have passed. They are claimed together.

        Args:
            scores: what is added to the scores file.
            rejects: what is added to the rejects file.
            rows: the digest of the rows that these are the results of.
            counts: the figures for the summary, up to these.

        Raises:
            OutputError: as `write`.
        """
        with disk.os_errors_named(self.paths.output), self._writing:
            self._failed = True
            if not self._has_state:
                self._announce()
            for part, contents in zip(self._parts, (scores, rejects), strict=True):
                for content in contents:
                    part.append(content)
            self.done.add_part(rows.lines, rows.text)
            self._counts = counts
            self._pending = True
            if time.monotonic() - self._last_commit >= self._commit_seconds:
                self._commit(complete=False)
                if not (self._replace or self.run.is_folder):  # a folder can have many names
                    check_free(self.run, self.paths, rejects=False)
            self._failed = False

    def start_again(self) -> None:
        """Take back what an interrupted run has written, of which nothing is wanted."""
        with disk.os_errors_named(self.paths.output), self._writing:
            self.done = InputDigest()
            self._counts = {}
            # No state may claim bytes that are gone.
            write_state(self.paths.state, self._state(EMPTY, EMPTY, complete=False))
            for part in self._parts:
                part.cut(EMPTY)

    def open_parts(self, files: ExitStack) -> None:
        """Open the partial files, and cut off what the state does not claim."""
        if self.is_complete:
            return
        if self.resumed is None:
            self._begin()
        for results in (self.paths.scores, self.paths.rejects):
            part = open_part(results.partial)
            files.callback(_close, part)
            self._parts.append(part)
        disk.sync_folder(self.paths.folder)
        state = self.resumed
        claims = (state.scores, state.rejects) if state else (EMPTY, EMPTY)
        for part, claim in zip(self._parts, claims, strict=True):
            part.cut(claim)

    def _begin(self) -> None:
        """Make the state ready for a new run, before anything is cut off.

        A state may not claim bytes that are gone. If there is anything of an older run that this
        run replaces, its state says so from the start: whoever resumes this run after a crash in
        its first moments does not take the old results for complete, and may replace them.
        """
        targets = targets_of(self.run)
        older = (*(target.final for target in targets), self.paths.rejects.final, self.paths.record)
        is_there = self.run.url is not None or any(path.exists() for path in older)
        if self._replace and is_there:
            write_state(self.paths.state, self._state(EMPTY, EMPTY, complete=False))
            self._has_state = True
        elif self._replace and self.paths.state.exists():  # that of an interrupted run
            self._announce()
        for target in targets if self._replace else ():
            disk.remove(target.made)

    def _announce(self) -> None:
        """Write a state that claims nothing, before the first results are written.

        So results without a state have lost it, and no resumed run takes them for a crash's.
        """
        write_state(self.paths.state, self._state(EMPTY, EMPTY, complete=False))
        self._has_state = self._is_announced = True

    def _commit(self, *, complete: bool) -> State:
        scores, rejects = (part.sync() for part in self._parts)
        state = self._state(scores, rejects, complete=complete)
        self._is_announced = False
        write_state(self.paths.state, state)
        self._last_commit = time.monotonic()
        self._pending = False
        return state

    def _state(self, scores: Claim, rejects: Claim, *, complete: bool) -> State:
        return State(
            fingerprint=self._fingerprint,
            lines=self.done.lines,
            digest=self.done.text,
            scores=scores,
            rejects=rejects,
            counts=dict(self._counts),
            replace=self._replace,
            complete=complete,
        )

    def finish(self, about: Mapping[str, Any], make: MakeFiles) -> None:
        """Commit everything, make the files that were asked for, and give them their final names.

        Args:
            about: facts for the record.
            make: makes the files.
        """
        if self.is_complete and self.resumed is not None:
            state = self.resumed
        else:
            for part in self._parts:
                part.check_name()
            state = self._commit(complete=True)
        state = make_files(self.run, self.paths, state, make, is_resumed=self.is_complete)
        files = finished_files(self.run, self.paths, state)
        check_final_names(files, self.paths, state.replace)
        # Something may have appeared there during the run.
        check_record(self.paths, files_of(self.run.inputs.sources))
        if state.replace:
            remove_stale(self.run, self.paths, files)
        write_record(self.run, self.paths, state, files, about)
        give_final_names(files, self.paths, state, self.run.inputs.sources)

    def keep(self) -> None:
        """Commit what an ending run has written, or remove its files if no state claims them."""
        with self._writing:
            if self._pending and not self._failed:
                self._commit(complete=False)
            elif self._is_announced or not self.paths.state.exists():
                # Nothing claims what is in these files.
                for part in self._parts:
                    disk.remove(part.path)
                disk.sync_folder(self.paths.folder)
                disk.remove(self.paths.state)


def _close(part: Part) -> None:
    with suppress(OSError):
        part.file.close()

"""Write the scores of a run where a job's own program would, with the ids that it would give."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from harmless_runtime.output import disk
from harmless_runtime.output.paths import OutputPaths
from harmless_runtime.rows.records import NO_ID
from harmless_runtime.scores.log import read_rejects, read_scores
from harmless_runtime.scores.record import RunRecord, read_record

_NO_IDS = (NO_ID, b"null")


class ScoredRow(msgspec.Struct, frozen=True, gc=False):
    """A row that was scored: its line in the input, and its id and its score as JSON."""

    line: int
    id: bytes
    score: bytes


@dataclass(frozen=True)
class OwnResults:
    """What a run of this project has left.

    Attributes:
        output: its output, with details.
        numbers_rows: whether rows without an id get their number among the rows, counted from 0.
    """

    output: Path
    numbers_rows: bool

    @property
    def record(self) -> RunRecord | None:
        """The record of the run, if it is there.

        Raises:
            OutputError: as `read_record`.
        """
        return read_record(OutputPaths(self.output).record)

    def rows(self) -> Iterator[ScoredRow]:
        """Yield the rows that were scored, in the order of the input.

        Raises:
            OutputError: as `read_rejects`.
        """
        rejects = OutputPaths(self.output).rejects.final
        with ExitStack() as stack:
            lines = read_scores(stack.enter_context(self.output.open("rb")))
            refused: Iterable[bytes] = ()
            if rejects.exists():
                refused = stack.enter_context(rejects.open("rb"))
            bad = read_rejects(refused, str(rejects))
            next_bad, number = next(bad, None), 0
            for line in lines:
                assert line.line is not None
                while next_bad is not None and next_bad.line < line.line:
                    next_bad, number = next(bad, None), number + 1
                row_id = bytes(line.id)
                if self.numbers_rows and row_id in _NO_IDS:
                    row_id = b"%d" % number
                yield ScoredRow(line.line, row_id, bytes(line.score))
                number += 1


def have_same_rows(first: RunRecord, second: RunRecord) -> bool:
    """Return whether two runs have read the same input."""
    is_same_digest = first.digest is not None and first.digest == second.digest
    return is_same_digest or first.inputs == second.inputs


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that gets its name, and replaces one that has it, when it is whole.

    Raises:
        OutputError: the disk is full, or failed.
    """
    with disk.os_errors_named(path, "`resume` writes it again"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with disk.open_temporary(path) as file:
            yield file
            file.flush()
            disk.sync(file)
        disk.rename(disk.temporary(path), path)
        disk.sync_folder(path.parent)


def place_scores(results: OwnResults, place: Path) -> None:
    """Write the ids and the scores of a run to a place, and nothing else.

    Raises:
        OutputError: as `whole_file`.
    """
    with whole_file(place) as file:
        file.writelines(b'{"id": %b, "score": %b}\n' % (r.id, r.score) for r in results.rows())


def copy_scores(output: Path, place: Path) -> None:
    """Copy the output of a run to a place, where it appears when it is whole.

    Raises:
        OutputError: as `whole_file`.
    """
    with output.open("rb") as lines, whole_file(place) as file:
        shutil.copyfileobj(lines, file)

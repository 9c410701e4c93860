"""Keep which pieces of a run are scored, and where their results are.

An attempt at a piece counts only if the manifest names it. So no lock and no renaming is asked of
the storage that machines share, and a piece that was scored twice counts once. Only the driver
writes the manifest, beside its output.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from harmless_runtime.cluster.storage import Storage
from harmless_runtime.errors import OutputError
from harmless_runtime.output import disk
from harmless_runtime.output.fingerprint import check_fingerprint
from harmless_runtime.output.state import START_AGAIN, Claim
from harmless_runtime.rows.beside import ATTEMPT
from harmless_runtime.rows.beside import MANIFEST as _NAME
from harmless_runtime.rows.pieces import Piece
from harmless_runtime.rows.sources import Source, Span
from harmless_runtime.scores.record import Count
from harmless_runtime.tally import Tally

_FORMAT_VERSION = 2


class Part(msgspec.Struct, frozen=True):
    """An input of a piece, or the span of it that is in the piece."""

    name: str
    span: Span | None = None


class Version(msgspec.Struct, frozen=True):
    """What tells that an input has changed. The fields are those of `Source`."""

    size: int | None
    version: str | None
    changed: int | None


class Plan(msgspec.Struct, frozen=True):
    """What a run is: what decides its results, and the parts of each piece.

    `replace` says whether the output may replace an older one.
    """

    format_version: int
    fingerprint: dict[str, Any]
    pieces: list[list[Part]]
    replace: bool = False


class Attempt(msgspec.Struct, frozen=True):
    """The results of a piece.

    Attributes:
        piece: its number, from 0.
        name: the attempt's folder in the storage.
        versions: its inputs as they were.
        rows: number of rows.
        digest: their hash, as `InputDigest` computes it: 64 digits.
        lines: lines of its span of JSON lines, blank ones too. Numbers of lines count from there.
        scores: what its file `scores.jsonl` holds. There is no file for nothing.
        rejects: what `rejects.jsonl` holds.
        tally: what was done.
        node: the machine that scored it.
        seconds: how long that took.
        tries: how often it was tried.
        counts: the rows of each of its inputs, if they were counted.
    """

    piece: Count
    name: Annotated[str, msgspec.Meta(pattern=f"^{ATTEMPT.pattern}$")]
    versions: list[Version]
    rows: Count
    digest: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    lines: Count
    scores: Claim
    rejects: Claim
    tally: Tally
    node: str
    seconds: float
    tries: int = 1
    counts: list[Count] | None = None

    @property
    def files(self) -> dict[str, Claim]:
        """The names of its files, and what is in them."""
        return {"scores.jsonl": self.scores, "rejects.jsonl": self.rejects}


def versions_of(sources: Sequence[Source]) -> list[Version]:
    """Return what tells later that inputs have changed."""
    return [Version(source.size, source.version, source.changed) for source in sources]


def read_plan(folder: Path) -> Plan | None:
    """Return the plan of the run whose pieces are in a folder, or None if there is none.

    A crash can leave attempts without a plan. They count nothing.

    Raises:
        OutputError: something else has the folder's name, or the manifest cannot be read.
    """
    if not disk.is_taken(folder):
        return None
    path = folder / _NAME
    try:
        has_plan = path.exists()
        if folder.is_symlink() or not (has_plan or all(map(_is_own, folder.iterdir()))):
            raise OutputError(f"{folder} is not a folder of pieces", "move it away")
        if not has_plan:
            return None
        with path.open("rb") as lines:
            return msgspec.json.decode(lines.readline(), type=Plan)
    except NotADirectoryError:
        raise OutputError(f"{folder} is not a folder of pieces", "move it away") from None
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OutputError(f"{path} is damaged: {error}", "move its folder away") from error


def _is_own(path: Path) -> bool:
    """Return whether a crash may have left something in a folder of pieces without a plan."""
    return ATTEMPT.fullmatch(path.name) is not None or path.name == f"{_NAME}.tmp"


def discard(folder: Path, storage: Storage) -> None:
    """Remove the pieces of a run: the manifest first, without which the others count nothing.

    What no run has written is left alone.

    Args:
        folder: that of the manifest.
        storage: that of the attempts.

    Raises:
        OutputError: as `read_plan`, or the storage cannot be written.
        OSError: the disk failed.
    """
    read_plan(folder)
    disk.remove(folder / _NAME)
    disk.remove(disk.temporary(folder / _NAME))
    storage.remove_attempts()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


class Manifest:
    """The manifest of a run, which grows by a line with each piece.

    Args:
        folder: the folder that it is in, which is made if it is not there.
        storage: where the files of attempts are.
        plan: what the run is.
        pieces: the pieces of the plan. What was scored of inputs that have changed counts no more.

    Attributes:
        done: the attempts that count, by the number of their piece.
        tally: what they did in all.

    Raises:
        OutputError: the folder holds the pieces of a run with other inputs, model or settings, or
            the manifest is damaged.
    """

    def __init__(self, folder: Path, storage: Storage, plan: Plan, pieces: Sequence[Piece]) -> None:
        self.storage = storage
        self.done: dict[int, Attempt] = {}
        self.tally = Tally()
        self._versions = [versions_of(piece) for piece in pieces]
        self._path = folder / _NAME
        then = read_plan(folder)
        if then is not None:
            self._read(then, plan, pieces)
            return
        if not storage.is_remote:
            storage.remove_attempts()  # those of a crash
        folder.mkdir(parents=True, exist_ok=True)
        disk.replace(self._path, msgspec.json.encode(plan) + b"\n")

    def _read(self, then: Plan, plan: Plan, pieces: Sequence[Piece]) -> None:
        # A line that a crash has cut is no attempt. What comes after it is on a line of its own.
        lines = self._path.read_bytes().split(b"\n")[1:]
        check_fingerprint(self._path, then.fingerprint, plan.fingerprint)
        if (then.format_version, then.pieces) != (plan.format_version, plan.pieces):
            raise OutputError(f"{self._path} tells of other pieces", START_AGAIN)
        for line in lines:
            try:
                attempt = msgspec.json.decode(line, type=Attempt)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            if attempt.piece >= len(pieces):  # the line was edited
                continue
            if attempt.versions == self._versions[attempt.piece] and self._is_whole(attempt):
                self._count(attempt)

    def _is_whole(self, attempt: Attempt) -> bool:
        """Return whether the files of an attempt are there. Their hashes are compared later."""
        return all(
            self.storage.size(attempt.name, name) == claim.size
            for name, claim in attempt.files.items()
            if claim.size
        )

    def add(self, attempt: Attempt) -> None:
        """Let an attempt count, if none does yet.

        Raises:
            OSError: the disk is full, or failed.
        """
        if attempt.piece in self.done:
            return
        with self._path.open("ab") as file:
            disk.append(file, b"\n" + msgspec.json.encode(attempt) + b"\n")
            disk.sync(file)
        self._count(attempt)

    def _count(self, attempt: Attempt) -> None:
        if attempt.piece not in self.done:
            self.done[attempt.piece] = attempt
            self.tally += attempt.tally


def make_plan(
    fingerprint: Mapping[str, Any], pieces: Sequence[Piece], *, replace: bool = False
) -> Plan:
    """Return the plan of a run, as it reads again from its JSON."""
    parts = [[Part(source.name, source.span) for source in piece] for piece in pieces]
    plan = Plan(_FORMAT_VERSION, dict(fingerprint), parts, replace)
    return msgspec.json.decode(msgspec.json.encode(plan), type=Plan)

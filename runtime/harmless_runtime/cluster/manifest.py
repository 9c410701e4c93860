"""Keep which pieces of a run are scored, and where their results are.

The folder of pieces is beside the output until this is complete. An attempt at a piece writes into
a folder of its own in it, and counts only if the manifest names it: so no lock and no renaming is
asked of a file system that several machines share, and a piece that was scored twice counts once.
Only the driver writes the manifest.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

from harmless_runtime.errors import OutputError
from harmless_runtime.output import disk
from harmless_runtime.output.fingerprint import check_fingerprint
from harmless_runtime.output.state import START_AGAIN, Claim
from harmless_runtime.scores.record import Count, hash_of
from harmless_runtime.tally import Tally

_FORMAT_VERSION = 1
_NAME = "manifest.jsonl"
_ATTEMPT = re.compile(r"\d{6,}-[0-9a-f]{12}")


class Plan(msgspec.Struct, frozen=True):
    """What a run is: what decides its results, and the names of the inputs of each piece.

    `replace` says whether the output may replace an older one.
    """

    format_version: int
    fingerprint: dict[str, Any]
    pieces: list[list[str]]
    replace: bool = False


class Attempt(msgspec.Struct, frozen=True):
    """The results of a piece.

    Attributes:
        piece: its number, from 0.
        folder: the attempt's folder in that of the pieces.
        lines: number of rows.
        digest: their SHA-256, as `InputDigest` computes it.
        scores: what its file `scores.jsonl` holds.
        rejects: what `rejects.jsonl` holds.
        counts: the fields of `Tally`, by name.
        node: the machine that scored it.
        seconds: how long that took.
        tries: how often it was tried.
    """

    piece: Count
    folder: str
    lines: Count
    digest: str
    scores: Claim
    rejects: Claim
    counts: dict[str, Count]
    node: str
    seconds: float
    tries: int = 1


def pieces_folder(output: Path) -> Path:
    """Return the folder of an output's pieces."""
    return output.with_name(f"{output.name}.pieces")


def read_plan(folder: Path) -> Plan | None:
    """Return the plan of the run whose pieces are in a folder, or None if there is no such folder.

    Raises:
        OutputError: something else has the folder's name, or the manifest is damaged.
    """
    if not disk.is_taken(folder):
        return None
    path = folder / _NAME
    if folder.is_symlink() or not folder.is_dir() or (not path.exists() and any(folder.iterdir())):
        raise OutputError(f"{folder} is not a folder of pieces", "move it away")
    if not path.exists():
        return None
    try:
        with path.open("rb") as lines:
            return msgspec.json.decode(lines.readline(), type=Plan)
    except msgspec.DecodeError as error:
        raise OutputError(f"{path} is damaged: {error}", "move its folder away") from error


def discard(folder: Path) -> None:
    """Remove the pieces of a run: the manifest first, without which the others count nothing.

    What no run has written is left alone.

    Raises:
        OutputError: as `read_plan`.
        OSError: the disk failed.
    """
    if read_plan(folder) is not None:
        (folder / _NAME).unlink()
    for attempt in list(folder.iterdir()) if folder.is_dir() else []:
        if _ATTEMPT.fullmatch(attempt.name) and attempt.is_dir() and not attempt.is_symlink():
            shutil.rmtree(attempt)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def attempt_name(piece: int) -> str:
    """Return a name for the folder of an attempt at a piece that no other attempt has."""
    return f"{piece:06d}-{uuid4().hex[:12]}"


class Manifest:
    """The manifest of a run, which grows by a line with each piece.

    Args:
        folder: the folder of the pieces. It is made if it is not there.
        plan: what the run is.

    Attributes:
        done: the attempts that count, by the number of their piece.
        tally: what they did in all.

    Raises:
        OutputError: the folder holds the pieces of a run with other inputs, model or settings, or
            the manifest is damaged.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
        self.done: dict[int, Attempt] = {}
        self.tally = Tally()
        self._path = folder / _NAME
        then = read_plan(folder)
        if then is not None:
            self._read(then, plan)
            return
        folder.mkdir(parents=True, exist_ok=True)
        disk.replace(self._path, msgspec.json.encode(plan) + b"\n")

    def _read(self, then: Plan, plan: Plan) -> None:
        # A line that a crash has cut is no attempt. What comes after it is on a line of its own.
        lines = self._path.read_bytes().split(b"\n")[1:]
        check_fingerprint(self._path, then.fingerprint, plan.fingerprint)
        if (then.format_version, then.pieces) != (plan.format_version, plan.pieces):
            raise OutputError(f"{self._path} tells of other pieces", START_AGAIN)
        for line in lines:
            try:
                attempt = msgspec.json.decode(line, type=Attempt)
            except msgspec.DecodeError:
                continue
            if self._is_whole(attempt):
                self._count(attempt)

    def _is_whole(self, attempt: Attempt) -> bool:
        """Return whether the files of an attempt are there. Their hashes are compared later."""
        return all(
            path.exists() and path.stat().st_size == claim.size
            for path, claim in self.files_of(attempt)
        )

    def files_of(self, attempt: Attempt) -> Sequence[tuple[Path, Claim]]:
        """Return the scores and the rejects of an attempt, each with what it has to hold."""
        folder = self.folder / attempt.folder
        return (
            (folder / "scores.jsonl", attempt.scores),
            (folder / "rejects.jsonl", attempt.rejects),
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
            self.tally += Tally(**attempt.counts)

    def check(self, attempt: Attempt) -> None:
        """Raise OutputError if the files of an attempt are not what it wrote."""
        for path, claim in self.files_of(attempt):
            if hash_of(path) != claim.sha256:
                raise OutputError(f"{path} was changed since it was written", START_AGAIN)


def make_plan(
    fingerprint: Mapping[str, Any], pieces: Sequence[Sequence[str]], *, replace: bool = False
) -> Plan:
    """Return the plan of a run, as it reads again from its JSON."""
    plan = Plan(_FORMAT_VERSION, dict(fingerprint), [list(names) for names in pieces], replace)
    return msgspec.json.decode(msgspec.json.encode(plan), type=Plan)

"""Write the scores of a job where its own program would, and those of all scorers together."""

import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from harmless_runtime.output import disk
from harmless_runtime.rows.records import NO_ID
from harmless_runtime.scores.log import read_scores

logger = logging.getLogger(__name__)

_NO_IDS = (NO_ID, b"null")
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class _RejectPlace(msgspec.Struct):
    line: int


class _Scored(msgspec.Struct, gc=False):
    """A line of any scorer: the id of the row, and an object of what was found, both as JSON."""

    id: bytes
    found: bytes


@contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file that gets its name, and replaces one that has it, when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = disk.temporary(path)
    with disk.os_errors_named(path):
        try:
            with beside.open("wb") as file:
                yield file
                file.flush()
                disk.sync(file)
            disk.rename(beside, path)
            disk.sync_folder(path.parent)
        finally:
            disk.remove(beside)


def place_scores(output: Path, rejects: Path, place: Path, *, numbers_rows: bool) -> None:
    """Write the ids and the scores of a run to a place, and nothing else.

    Args:
        output: the output of a run with details.
        rejects: its rejects, if it had any.
        place: the file to write.
        numbers_rows: whether rows without an id get their number among the rows, counted from 0.

    Raises:
        OutputError: the disk is full, or failed.
    """
    with ExitStack() as stack:
        lines = read_scores(stack.enter_context(output.open("rb")))
        refused: Iterable[bytes] = ()
        if rejects.exists():
            refused = stack.enter_context(rejects.open("rb"))
        bad = (msgspec.json.decode(line, type=_RejectPlace).line for line in refused)
        next_bad, number = next(bad, None), 0
        file = stack.enter_context(_whole(place))
        for line in lines:
            while next_bad is not None and next_bad < (line.line or 0):
                next_bad, number = next(bad, None), number + 1
            row_id = bytes(line.id)
            if numbers_rows and row_id in _NO_IDS:
                row_id = b"%d" % number
            file.write(b'{"id": %b, "score": %b}\n' % (row_id, bytes(line.score)))
            number += 1


def copy_scores(output: Path, place: Path) -> None:
    """Copy the output of a run to a place, where it appears when it is whole.

    Raises:
        OutputError: the disk is full, or failed.
    """
    with output.open("rb") as lines, _whole(place) as file:
        shutil.copyfileobj(lines, file)


def put_together(files: Mapping[str, Path], out: Path) -> int:
    """Write `{"id", "scores": {NAME: {...}}}` for each row that a scorer has scored.

    The rows are in the order of the files, which hold the rows of one input. As long as the next
    rows of all files have equal ids, nothing is kept in memory. Where a file lacks a row, all that
    comes after is kept. Rows whose ids repeat are told apart by their order.

    Args:
        files: lines with an id and with what was found, by the names of the scorers.
        out: the file to write.

    Returns:
        the number of rows.

    Raises:
        OutputError: the disk is full, or failed.
    """
    count = 0
    with ExitStack() as stack:
        each = [_scored(name, stack.enter_context(p.open("rb"))) for name, p in files.items()]
        file = stack.enter_context(_whole(out))
        rows = [next(lines, None) for lines in each]
        while (row := rows[0]) is not None and all(o is not None and o.id == row.id for o in rows):
            found = {name: r.found for name, r in zip(files, rows, strict=True) if r is not None}
            file.write(_line(row.id, found))
            rows = [next(lines, None) for lines in each]
            count += 1
        kept: dict[tuple[bytes, int], dict[str, bytes]] = {}
        for name, first, lines in zip(files, rows, each, strict=True):
            seen: Counter[bytes] = Counter()
            for line in _from(first, lines):
                kept.setdefault((line.id, seen[line.id]), {})[name] = line.found
                seen[line.id] += 1
        file.writelines(_line(row_id, found) for (row_id, _), found in kept.items())
    return count + len(kept)


def _from(first: _Scored | None, rest: Iterator[_Scored]) -> Iterator[_Scored]:
    if first is not None:
        yield first
        yield from rest


def _line(row_id: bytes, found: Mapping[str, bytes]) -> bytes:
    scores = b", ".join(b"%b: %b" % (msgspec.json.encode(n), f) for n, f in found.items())
    return b'{"id": %b, "scores": {%b}}\n' % (row_id, scores)


def _scored(name: str, lines: Iterable[bytes]) -> Iterator[_Scored]:
    """Yield the lines of a scorer. Those without an id, or that are no JSON, are left out."""
    left_out = 0
    for text in lines:
        line = _decode(text)
        if line is None:
            left_out += 1
        else:
            yield line
    if left_out:
        logger.warning("%d lines of %s have no id, and are left out", left_out, name)


def _decode(text: bytes) -> _Scored | None:
    try:
        line = _decode_members(text)
        # Programs write the same id differently: with escapes, and with spaces.
        row_id = msgspec.json.encode(msgspec.json.decode(line.pop("id")))
    except (msgspec.DecodeError, KeyError, UnicodeDecodeError):
        return None
    members = (b"%b: %b" % (msgspec.json.encode(name), bytes(v)) for name, v in line.items())
    return _Scored(row_id, b"{%b}" % b", ".join(members))


def found_beside(scratch: Path, own: Iterable[str]) -> dict[str, Path]:
    """Return the files of other scorers that score row by row, by the scorers' names.

    They are found as the job's own program does it: `scorer_NAME/*_merged.jsonl`, or else any
    `*.jsonl` there that is no part of the rows. The first line has an id.

    Args:
        scratch: the folder with a folder for each scorer.
        own: the scorers of this project.
    """
    files = {}
    for folder in sorted(scratch.glob("scorer_*/")):
        name = folder.name.removeprefix("scorer_")
        if name in own:
            continue
        found = sorted(folder.glob("*.jsonl"))
        whole = [path for path in found if path.name.endswith("_merged.jsonl")]
        parts = f"{name}_data_part"
        for path in (whole or [p for p in found if not p.name.startswith(parts)])[:1]:
            with path.open("rb") as file:
                if _decode(file.readline()):
                    files[name] = path
    return files

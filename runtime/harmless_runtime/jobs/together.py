"""Put the scores of several scorers together, a line for each row."""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from harmless_runtime.jobs.results import OwnResults, ScoredRow, whole_file

logger = logging.getLogger(__name__)

Found = dict[str, bytes]


def put_together(own: Mapping[str, OwnResults], others: Mapping[str, Path], out: Path) -> int:
    """Write `{"id", "scores": {NAME: {...}}}` for each row that a scorer has scored.

    The rows of this project's scorers belong together by their lines in the input, so that equal
    ids do no harm, and nothing is kept in memory. What other programs have found is added by the
    ids, and kept in memory; an id that repeats could be any of its rows, and gets nothing of it.
    Rows that only other programs have scored come at the end.

    Args:
        own: the results of this project's scorers over the same input, by the scorers' names.
        others: files of other scorers, as `found_beside` returns them.
        out: the file to write.

    Returns:
        the number of rows.

    Raises:
        OutputError: as `whole_file`.
    """
    repeated = _repeated_ids(own) if others else set()
    found = {name: _found_by_id(path, repeated) for name, path in others.items()}
    count = 0
    with whole_file(out) as file:
        for row_id, scores in _by_line({name: results.rows() for name, results in own.items()}):
            if found:
                key = _key(row_id)
                scores |= {name: ids.pop(key) for name, ids in found.items() if key in ids}
            file.write(_line(row_id, scores))
            count += 1
        left: dict[str, Found] = {}
        for name, ids in found.items():
            for row_key, value in ids.items():
                left.setdefault(row_key, {})[name] = value
        file.writelines(_line(_encoded(row_key), scores) for row_key, scores in left.items())
    return count + len(left)


def _by_line(each: Mapping[str, Iterator[ScoredRow]]) -> Iterator[tuple[bytes, Found]]:
    """Yield the id of each row and the scores that it has, in the order of the lines."""
    heads = {name: row for name, rows in each.items() if (row := next(rows, None))}
    while heads:
        line = min(row.line for row in heads.values())
        here = {name: row for name, row in heads.items() if row.line == line}
        yield (
            next(iter(here.values())).id,
            {name: b'{"score": %b}' % row.score for name, row in here.items()},
        )
        for name in here:
            row = next(each[name], None)
            if row is None:
                del heads[name]
            else:
                heads[name] = row


def _line(row_id: bytes, found: Found) -> bytes:
    scores = b", ".join([b"%b: %b" % (msgspec.json.encode(n), f) for n, f in found.items()])
    return b'{"id": %b, "scores": {%b}}\n' % (row_id, scores)


def _key(row_id: bytes) -> str:
    """Return an id as it is compared. Programs write the same id with and without escapes."""
    try:
        return json.dumps(json.loads(row_id), ensure_ascii=False)
    except (ValueError, RecursionError):  # a number of too many digits
        return row_id.decode()


def _encoded(text: str) -> bytes:
    """Encode JSON. A lone surrogate, which has no bytes in UTF-8, becomes an escape again."""
    return text.encode("utf-8", "backslashreplace")


def _repeated_ids(own: Mapping[str, OwnResults]) -> set[str]:
    """Return the ids that several rows have."""
    counts: Counter[str] = Counter()
    for results in own.values():
        counts |= Counter(_key(row.id) for row in results.rows())
    return {key for key, count in counts.items() if count > 1}


def _found_by_id(path: Path, repeated: set[str]) -> Found:
    """Return what another scorer has found, by ids of which each has one row."""
    found: Found = {}
    ambiguous, unreadable = 0, 0
    seen_twice = set()
    with path.open("rb") as lines:
        for line in _decoded(lines):
            if line is None or "id" not in line:
                unreadable += 1
                continue
            key = json.dumps(line.pop("id"), ensure_ascii=False)
            if key in repeated or key in found or key in seen_twice:
                ambiguous += 1 + (found.pop(key, None) is not None)
                seen_twice.add(key)
                continue
            found[key] = _encoded(json.dumps(line, ensure_ascii=False))
    if unreadable:
        logger.warning("%d lines of %s are no JSON with an id, and are left out", unreadable, path)
    if ambiguous:
        logger.warning(
            "%d lines of %s have an id that repeats, and are left out: no row is surely theirs",
            ambiguous,
            path,
        )
    return found


def _decoded(lines: Iterable[bytes]) -> Iterator[dict[str, Any] | None]:
    """Yield the objects that lines hold, and None for a line that holds none."""
    for text in lines:
        if not text.strip():
            continue
        try:
            # Python's own JSON has NaN, which becomes null.
            line = json.loads(text.decode("utf-8-sig"), parse_constant=lambda _: None)
        except (ValueError, RecursionError):
            line = None
        yield line if isinstance(line, dict) else None


def found_beside(scratch: Path, own: Iterable[str]) -> dict[str, Path]:
    """Return the files of other scorers that score row by row, by the scorers' names.

    They are found as the job's own program does it: `scorer_NAME/*_merged.jsonl`, or else any
    `*.jsonl` there that is no part of the rows. The first line that is an object has an id.

    Args:
        scratch: the folder with a folder for each scorer.
        own: the scorers that are passed over.
    """
    passed = set(own)
    files = {}
    for folder in sorted(scratch.glob("scorer_*/")):
        name = folder.name.removeprefix("scorer_")
        path = None if name in passed else scores_in(folder, name)
        if path is not None:
            with path.open("rb") as lines:
                first = next((line for line in _decoded(lines) if line is not None), {})
            if "id" in first:
                files[name] = path
    return files


def scores_in(folder: Path, name: str) -> Path | None:
    """Return the file of scores in the folder of a scorer, or None."""
    found = [path for path in sorted(folder.glob("*.jsonl")) if path.is_file()]
    whole = [path for path in found if path.name.endswith("_merged.jsonl")]
    parts = f"{name}_data_part"
    plain = [path for path in found if not path.name.startswith(parts)]
    return next(iter(whole or plain), None)

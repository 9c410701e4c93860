"""Write a row's line of output: its score, or why it has none."""

import base64
import re
from collections import Counter
from collections.abc import Iterable

import msgspec
import numpy as np

from harmless_runtime.rows.records import Pair, Reject

_MOST_REASONS = 1000


def score_line(row_id: bytes, score: np.float32, details: bytes = b"") -> bytes:
    """Return one line of the scores file.

    Args:
        row_id: the id as JSON text. It is copied, except that carriage returns become spaces.
        score: the reward, finite.
        details: what `row_details` gives, or nothing.
    """
    # An id that is an object may hold carriage returns between its tokens. JSON ignores them there,
    # but some programs would take them for the end of a line.
    safe_id = row_id.replace(b"\r", b" ")
    return b'{"id": %b, "score": %b%b}\n' % (safe_id, score_text(score), details)


def score_text(score: np.float32) -> bytes:
    """Return a finite score as JSON: the shortest text that reads back as the same float32."""
    return str(score).encode()


def row_details(pair: Pair, *, tokens: int, truncated: bool) -> bytes:
    """Return the members that `details` adds to a line of scores.

    Args:
        pair: the row.
        tokens: number of its tokens.
        truncated: whether tokens were cut off.
    """
    details = b', "tokens": %d, "truncated": %b, "source": %b, "line": %d' % (
        tokens,
        b"true" if truncated else b"false",
        msgspec.json.encode(pair.source),
        pair.number,
    )
    return details + b', "text": "%b"' % pair.side.encode() if pair.side else details


def reject_line(reject: Reject) -> bytes:
    """Return one line of the rejects file. Text that is not UTF-8 is written in base64."""
    origin = {"source": reject.source, "line": reject.number, "reason": reject.reason}
    try:
        content = {"raw": reject.raw.decode()}
    except UnicodeDecodeError:
        content = {"raw_base64": base64.b64encode(reject.raw).decode()}
    return msgspec.json.encode(origin | content) + b"\n"


def with_line_added(line: bytes, before: int) -> bytes:
    """Return a line of scores with details whose number of a line is raised.

    Args:
        line: what `score_line` made with `row_details`.
        before: number of lines before those that it counts.
    """
    start, key, rest = line.rpartition(b', "line": ')
    number = re.match(rb"\d+", rest)
    assert number is not None
    return b"%b%b%d%b" % (start, key, int(number[0]) + before, rest[number.end() :])


def reject_with_line_added(line: bytes, before: int) -> bytes:
    """Return a line of rejects whose number of a line is raised, as `with_line_added` does it."""
    reject = msgspec.json.decode(line)
    return msgspec.json.encode(reject | {"line": reject["line"] + before}) + b"\n"


def common_reasons(rejects: Iterable[bytes], most: int = 3) -> list[tuple[str, int]]:
    """Return the commonest reasons in the lines of a rejects file, with their counts.

    Numbers are left out of the reasons, because they differ from row to row. Of reasons that hold
    texts of the rows, only the first thousand are counted, so that memory does not grow with them.
    """
    counts: Counter[str] = Counter()
    for line in rejects:
        reason = msgspec.json.decode(line, type=_Reason).reason
        kind = re.sub(r"(?<![\w-])\d[\d,]*", "…", reason)
        if kind in counts or len(counts) < _MOST_REASONS:
            counts[kind] += 1
    return counts.most_common(most)


class _Reason(msgspec.Struct):
    reason: str

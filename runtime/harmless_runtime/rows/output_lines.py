"""Write a row's line of output: its score, or why it has none."""

import base64

import msgspec
import numpy as np

from harmless_runtime.rows.records import Reject


def score_line(
    row_id: bytes, score: np.float32, *, tokens: int | None = None, truncated: bool = False
) -> bytes:
    """Return one line of the scores file.

    Args:
        row_id: the id as JSON text. It is copied, except that carriage returns become spaces.
        score: the reward, finite. It is written as the shortest text that reads back as the same
            float32.
        tokens: the number of the row's tokens. If it is given, the line also has `tokens` and
            `truncated`.
        truncated: whether tokens were cut off.
    """
    details = ""
    if tokens is not None:
        details = f', "tokens": {tokens}, "truncated": {"true" if truncated else "false"}'
    # An id that is an object may hold carriage returns between its tokens. JSON ignores them there,
    # but some programs would take them for the end of a line.
    safe_id = row_id.replace(b"\r", b" ")
    return b'{"id": %b, "score": %b%b}\n' % (safe_id, str(score).encode(), details.encode())


def reject_line(reject: Reject) -> bytes:
    """Return one line of the rejects file. Text that is not UTF-8 is written in base64."""
    line = reject.line
    origin = {"source": line.source, "line": line.number, "reason": reject.reason}
    try:
        content = {"raw": line.raw.decode()}
    except UnicodeDecodeError:
        content = {"raw_base64": base64.b64encode(line.raw).decode()}
    return msgspec.json.encode(origin | content) + b"\n"

"""Score a window: its rows become lines of scores, or rejects."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from harmless_runtime.errors import InputError
from harmless_runtime.model.engine import Engine, ScoredBatch
from harmless_runtime.rows.output_lines import row_details, score_line
from harmless_runtime.rows.records import NO_ID, Pair, Reject
from harmless_runtime.tally import Tally
from harmless_runtime.windows import Row, Window

logger = logging.getLogger(__name__)

# Truncated rows that get a warning each, before they are only counted.
TRUNCATION_WARNINGS = 5


@dataclass(frozen=True)
class Scored:
    """The results of one window: lines of scores, rejects, and their tally."""

    lines: list[bytes]
    rejects: list[Reject]
    tally: Tally


def score_window(
    window: Window,
    engine: Engine,
    details: bool,
    before: Tally,
    on_progress: Callable[[Tally], None],
) -> Scored:
    """Score the rows of a window. A row whose score is not finite becomes a reject.

    Args:
        window: the rows and rejects.
        engine: what scores.
        details: whether the lines also tell tokens and truncation.
        before: what was done before this window, for progress and for the number of warnings.
        on_progress: called after each batch.
    """
    rows = window.rows
    _tell(rows, before)
    computed = Tally()

    def count(batch: ScoredBatch) -> None:
        nonlocal computed
        computed += Tally(computed_tokens=batch.tokens, padding=batch.padding)
        computed += Tally(
            rows=len(batch.rows),
            tokens=sum(len(rows[i].encoded.ids) for i in batch.rows),
            input_bytes=window.input_bytes * len(batch.rows) // len(rows),
        )
        on_progress(before + computed)

    scores = iter(engine.score([row.encoded for row in rows], count))
    lines, rejects = [], []
    for item in window.items:
        if isinstance(item, Reject):
            rejects.append(item)
        elif np.isfinite(score := next(scores)):
            pair, encoded = item.pair, item.encoded
            more = b""
            if details:
                more = row_details(pair, tokens=len(encoded.ids), truncated=encoded.truncated)
            lines.append(score_line(pair.id, score, more))
        else:
            rejects.append(rejected(item.pair, engine.why_no_score(float(score))))
    tally = Tally(
        rows=len(lines),
        rejected=len(rejects),
        truncated=sum(row.encoded.truncated for row in rows),
        tokens=computed.tokens,
        computed_tokens=computed.computed_tokens,
        padding=computed.padding,
        input_bytes=window.input_bytes,
        without_id=sum(row.pair.id == NO_ID for row in rows),
        without_system=sum(row.pair.dropped_system for row in rows),
    )
    return Scored(lines, rejects, tally)


def _tell(rows: list[Row], before: Tally) -> None:
    """Tell of what was done to rows, but only of the first ones of a run."""
    truncated = [row for row in rows if row.encoded.truncated]
    for row in truncated[: max(0, TRUNCATION_WARNINGS - before.truncated)]:
        logger.warning(
            "%s, line %d: truncated to %d tokens",
            row.pair.source,
            row.pair.number,
            len(row.encoded.ids),
        )
    if not before.without_id and any(row.pair.id == NO_ID for row in rows):
        logger.warning(
            'rows without an id get the id "" (`columns` id=FIELD names the field that holds it; '
            "`details` adds the input's name and the line to each score)"
        )
    if not before.without_system and any(row.pair.dropped_system for row in rows):
        logger.info(
            "system texts are left out, because the model was trained without them (`system` "
            "prepend puts them before the first human turn)"
        )


def rejected(pair: Pair, reason: str) -> Reject:
    """Make a reject of a row that the model gives no score. Its texts take the place of the row."""
    return Reject(pair.source, pair.number, reason, (pair.question + pair.answer).encode())


def raise_on_reject(windows: Iterable[Window], hint: str) -> Iterator[Window]:
    """Yield windows; raise InputError at the first one with a line that cannot be scored."""
    for window in windows:
        if window.rejects:
            raise refusal(window.rejects[0], hint)
        yield window


def refusal(reject: Reject, hint: str) -> InputError:
    """Return the error for a row that cannot be scored where none may be rejected."""
    return InputError(f"{reject.source}, line {reject.number}: {reject.reason}", hint)

"""Score windows: their rows become lines of scores, or rejects."""

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from harmless_runtime.errors import InputError
from harmless_runtime.model.engine import Engine
from harmless_runtime.model.tokenizer import Encoded
from harmless_runtime.model.work import ScoredBatch
from harmless_runtime.read_ahead import ReadAhead
from harmless_runtime.rows.output_lines import row_details, score_line
from harmless_runtime.rows.records import NO_ID, Pair, Reject
from harmless_runtime.tally import Tally
from harmless_runtime.windows import Refused, Row, Window

logger = logging.getLogger(__name__)

# Truncated rows that get a warning each, before they are only counted.
TRUNCATION_WARNINGS = 5
# Rows whose marks are named in the warning of them.
_MARKS = 20


@dataclass(frozen=True)
class Scored:
    """The results of one window: lines of scores, rejects, their tally, and the finite scores."""

    lines: list[bytes]
    rejects: list[Reject]
    tally: Tally
    scores: NDArray[np.float32]


def score_windows(
    windows: ReadAhead,
    engine: Engine,
    details: bool,
    before: Tally,
    on_progress: Callable[[Tally], None],
) -> Generator[tuple[Window, Scored], None, None]:
    """Score windows in their order. A row whose score is not finite becomes a reject.

    The first batches of a window run together with the last ones of the window before.

    Args:
        windows: the rows and rejects.
        engine: what scores.
        details: whether the lines also tell tokens and truncation.
        before: what was done before these windows.
        on_progress: called after each batch, with all that was done so far.
    """
    done = told = before
    computed = Tally()  # of the window that is yielded next

    def take(wait: bool) -> Window | None:
        nonlocal told
        window = windows.take(wait)
        if window is not None:
            _tell(window.rows, told, details)
            told += _count(window.rows)
        return window

    def count(window: Window, batch: ScoredBatch) -> None:
        nonlocal computed
        rows = window.rows
        computed += Tally(
            rows=len(batch.rows),
            tokens=sum(len(rows[i].encoded.ids) for i in batch.rows),
            computed_tokens=batch.tokens,
            padding=batch.padding,
            input_bytes=window.input_bytes * len(batch.rows) // len(rows),
        )
        on_progress(done + computed)

    for window, scores in in_turn(take, engine, count):
        lines, rejects = _results(window, scores, engine, details)
        counted = replace(
            computed, rows=len(lines), rejected=len(rejects), input_bytes=window.input_bytes
        )
        finite = scores[np.isfinite(scores)]
        scored = Scored(lines, rejects, counted + _count(window.rows), finite)
        done += scored.tally
        computed = Tally()
        yield window, scored


def in_turn(
    take: Callable[[bool], Window | None],
    engine: Engine,
    on_batch: Callable[[Window, ScoredBatch], None] = lambda *_: None,
) -> Iterator[tuple[Window, NDArray[np.float32]]]:
    """Yield windows with the scores of their rows.

    Args:
        take: returns the next window, as `Engine.score_in_turn` takes the next set of rows.
        engine: what scores.
        on_batch: called after each batch, with the window that is yielded next.
    """
    under_way: deque[Window] = deque()

    def more(wait: bool) -> list[Encoded] | None:
        window = take(wait)
        if window is None:
            return None
        under_way.append(window)
        return [row.encoded for row in window.rows]

    for scores in engine.score_in_turn(more, lambda batch: on_batch(under_way[0], batch)):
        yield under_way.popleft(), scores


def _results(
    window: Window, scores: NDArray[np.float32], engine: Engine, details: bool
) -> tuple[list[bytes], list[Reject]]:
    """Return the lines and the rejects of a window."""
    lines, rejects = [], []
    own = iter(scores)
    for item in window.items:
        if isinstance(item, Reject):
            rejects.append(item)
        elif isinstance(item, Refused):
            rejects.append(item.reject)
        elif np.isfinite(score := next(own)):
            pair, encoded = item.pair, item.encoded
            more = b""
            if details:
                more = row_details(pair, tokens=len(encoded.ids), truncated=encoded.truncated)
            lines.append(score_line(pair.id, score, more))
        else:
            rejects.append(Refused(item.pair, engine.why_no_score(float(score))).reject)
    return lines, rejects


def _lacks_id(row: Row) -> bool:
    """Return whether a row has no id, though its score is found by that."""
    return row.pair.id == NO_ID and row.pair.side is None


def _count(rows: list[Row]) -> Tally:
    """Count what was done to rows before they were scored."""
    return Tally(
        truncated=sum(row.encoded.truncated for row in rows),
        without_id=sum(_lacks_id(row) for row in rows),
        without_system=sum(row.pair.dropped_system for row in rows),
        with_turns=sum(row.pair.has_turns for row in rows),
        lost_end=sum(row.pair.lost_end for row in rows),
        with_marks=sum(row.pair.mark is not None for row in rows),
    )


def _tell(rows: list[Row], before: Tally, details: bool) -> None:
    """Tell of what was done to rows, but only of the first ones of a run."""
    truncated = [row for row in rows if row.encoded.truncated]
    for row in truncated[: max(0, TRUNCATION_WARNINGS - before.truncated)]:
        logger.warning(
            "%s, line %d: truncated to %d tokens",
            row.pair.source,
            row.pair.number,
            len(row.encoded.ids),
        )
    if not details and not before.without_id and any(map(_lacks_id, rows)):
        logger.warning(
            'rows without an id get the id "" (`columns` id=FIELD names the field that holds it; '
            "`details` adds the input's name and the line to each score)"
        )
    if not before.without_system and any(row.pair.dropped_system for row in rows):
        logger.info(
            "system texts are left out, because the model was trained without them (`system` "
            "prepend puts them before the first human turn)"
        )
    if not before.with_turns and any(row.pair.has_turns for row in rows):
        logger.info(
            "requests that are dialogues or texts of a chat template are read turn by turn "
            "(`as_is` takes them as words, as the original scorer does)"
        )
    marked = [row.pair for row in rows if row.pair.mark]
    if marked and not before.with_marks:
        logger.warning("%s", about_marks(marked))


def about_marks(marked: Sequence[Pair], place: str = ", line") -> str:
    """Return what to say of rows with marks of chat templates that are scored as words.

    Args:
        marked: the rows.
        place: what stands between the name of the input and the number of a row.
    """
    first = marked[0]
    seen = ", ".join(dict.fromkeys(pair.mark or "" for pair in marked[:_MARKS]))
    return (
        f"{first.source}{place} {first.number}: marks of a chat template are scored as words "
        f"({seen}), because the text is not wholly turns of a template that is known: write such "
        "rows as messages with roles, or take the marks out (`strict` refuses these rows, and "
        "`as_is` says that they are meant)"
    )


def raise_on_reject(
    rows: Iterable[Pair | Reject], refuse: Callable[[Reject], InputError]
) -> Iterator[Pair]:
    """Yield rows; raise the error that `refuse` returns at the first that cannot be scored."""
    for row in rows:
        if isinstance(row, Reject):
            raise refuse(row)
        yield row


def refusal(reject: Reject, hint: str) -> InputError:
    """Return the error for a row that cannot be scored where none may be rejected."""
    return InputError(f"{reject.source}, line {reject.number}: {reject.reason}", hint)

"""Score rows that are in memory into an array."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from harmless_runtime.errors import ConfigError
from harmless_runtime.model.engine import Engine
from harmless_runtime.read_ahead import ReadAhead
from harmless_runtime.rows.items import Items
from harmless_runtime.rows.records import Pair, Reject
from harmless_runtime.scored import about_marks, in_turn, raise_on_reject
from harmless_runtime.windows import Refused, Window, read_windows

logger = logging.getLogger(__name__)

OnError = Literal["raise", "nan"]
# Fewer rows are not read ahead, because starting a thread takes longer than tokenising them.
_FEW = 64


def score_items(
    items: Items, engine: Engine, on_error: OnError, *, progress: bool = False
) -> NDArray[np.float32]:
    """Return the rewards of rows, in their order.

    Args:
        items: the rows.
        engine: what scores.
        on_error: what becomes of a row that cannot be scored: an error, or the reward NaN and one
            warning for all of them.
        progress: show a progress bar on standard error.

    Returns:
        float32 [items.count].

    Raises:
        InputError: a row cannot be scored.
        ConfigError: `on_error` is neither "raise" nor "nan".
        SessionError: ONNX Runtime failed.
    """
    if on_error not in ("raise", "nan"):
        raise ConfigError(f"on_error is {on_error!r}, and has to be 'raise' or 'nan'")
    if items.count > _FEW:
        engine = replace(engine, few_rows=None)  # whose scores would differ by rounding
    rewards = np.full(items.count, np.nan, np.float32)
    failed = 0
    told = False
    with ExitStack() as stack:
        advance = stack.enter_context(_bar(items.count)) if progress else lambda _: None
        take = _windows(items, engine, stack, on_error)
        for window, scores in in_turn(take, engine, lambda _, batch: advance(len(batch.rows))):
            rows = window.rows
            if not told and (marked := [row.pair for row in rows if row.pair.mark]):
                logger.warning("%s", about_marks(marked, ""))
                told = True
            rejects = window.rejects + [
                Refused(row.pair, engine.why_no_score(float(score))).reject
                for row, score in zip(rows, scores, strict=True)
                if not np.isfinite(score)
            ]
            if rejects and on_error == "raise":
                raise items.refusal(rejects[0])
            rewards[[row.pair.number for row in rows]] = np.where(
                np.isfinite(scores), scores, np.nan
            )
            if rejects and not failed:
                logger.warning("the reward is NaN: %s", items.refusal(rejects[0]))
            failed += len(rejects)
            advance(len(window.rejects))
    if failed > 1:
        logger.warning("%d of %d items have no reward, but NaN", failed, items.count)
    return rewards


def _windows(
    items: Items, engine: Engine, stack: ExitStack, on_error: OnError
) -> Callable[[bool], Window | None]:
    """Return what takes the next window of the items."""
    pairs: Iterable[Pair | Reject] = items.pairs()
    if on_error == "raise":
        pairs = raise_on_reject(pairs, items.refusal)
    if items.count > _FEW:
        return stack.enter_context(ReadAhead(pairs, engine.tokenizer, engine.limits)).take
    windows = read_windows(pairs, engine.tokenizer, engine.limits)
    return lambda _: next(windows, None)


@contextmanager
def _bar(count: int) -> Iterator[Callable[[int], None]]:
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=count)
        yield lambda rows: bar.advance(task, rows)


def decoded_id(text: bytes) -> Any:
    """Return the value of an id whose JSON is given."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:  # a number that Python does not read, such as 1e99999
        return text.decode()

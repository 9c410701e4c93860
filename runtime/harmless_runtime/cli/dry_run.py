"""Show how the rows of a run would be read, and estimate what scoring them would take."""

import time
from itertools import islice

import numpy as np
from rich.console import Console

from harmless_runtime.cli.console import say
from harmless_runtime.config import ScorerConfig
from harmless_runtime.errors import ShapeError
from harmless_runtime.model.engine import Engine
from harmless_runtime.model.load import load_engine
from harmless_runtime.model.tokenizer import UNBROKEN, Encoded
from harmless_runtime.rows.inputs import Inputs
from harmless_runtime.rows.output_lines import common_reasons, reject_line
from harmless_runtime.rows.records import Pair, Reject
from harmless_runtime.windows import Refused

# Rows that the estimates are made from, and how long the measurement lasts about.
_SAMPLE_ROWS = 2000
_SECONDS = 5.0
_TEXT_CHARACTERS = 2000
# How long further rows are counted. They are read in blocks, so a small part of a file would tell
# little about the length of a row.
_COUNT_SECONDS = 0.5


def show_dry_run(console: Console, inputs: Inputs, config: ScorerConfig) -> None:
    """Print the shape of the rows, one text as the model sees it, and the estimates.

    Raises:
        ShapeError: none of the first rows can be scored.
        InputError: as `Inputs`.
        HarmlessError: as `load_engine`.
    """
    inputs.shape()
    rows = inputs.rows()
    sample = list(islice(rows, _SAMPLE_ROWS))
    seen, is_all = len(sample), True
    until = time.monotonic() + _COUNT_SECONDS
    for _ in rows:
        seen += 1
        if time.monotonic() > until:
            is_all = False
            break
    inputs.warn_of_empty()
    pairs = [item for item in sample if isinstance(item, Pair)]
    rejects = [item for item in sample if isinstance(item, Reject)]
    if pairs:
        _show_example(console, pairs[0])
    total = seen if is_all else _estimated_rows(inputs, seen)
    engine = load_engine(config, for_many_rows=True)
    each = engine.tokenizer.encode_each([(pair.question, pair.answer) for pair in pairs])
    encoded = [row for row in each if row is not None]
    rejects += [
        Refused(pair, UNBROKEN).reject for pair, row in zip(pairs, each, strict=True) if not row
    ]
    if not encoded:
        reasons = [f"{reason} ({n:,})" for reason, n in common_reasons(map(reject_line, rejects))]
        raise ShapeError(f"no row can be scored: {'; '.join(reasons) or 'there are none'}")
    tokens = np.array([len(row.ids) for row in encoded])
    truncated = sum(row.truncated for row in encoded)
    say(console, f"from {'all' if total == len(sample) else 'the first'} {len(sample):,} rows:")
    for reason, count in common_reasons(map(reject_line, rejects)):
        say(console, f"  {count:,} rows would be rejected: {reason}")
    say(
        console,
        f"  tokens a row: {tokens.mean():,.0f} on average, {np.median(tokens):,.0f} in the middle, "
        f"{tokens.max():,} at most; {truncated:,} rows would be truncated to "
        f"{engine.tokenizer.max_length:,}",
    )
    speed = _tokens_per_second(engine, encoded)
    if total is None:
        say(console, f"  {speed:,.0f} tokens/s; the number of rows is not known")
        return
    scored = total * len(encoded) / len(sample)
    seconds = scored * tokens.mean() / speed
    about = "" if total == len(sample) else "about "
    rows_about = "" if is_all else "about "
    provider = engine.runner.target.provider
    say(
        console,
        f"in all {rows_about}{total:,} rows, {about}{scored * tokens.mean():,.0f} tokens; at "
        f"{speed:,.0f} tokens/s ({provider}, {engine.precision}) "
        f"scoring takes about {_duration(seconds)}",
    )


def _show_example(console: Console, pair: Pair) -> None:
    say(console, f"the text of {pair.source}, line {pair.number}, as the model sees it:")
    text = f"{pair.question}{pair.answer}"
    if len(text) > _TEXT_CHARACTERS:
        text = f"{text[:_TEXT_CHARACTERS]}… ({len(text) - _TEXT_CHARACTERS:,} more characters)"
    for line in text.split("\n"):
        say(console, f"  | {line}")


def _estimated_rows(inputs: Inputs, seen: int) -> int | None:
    """Return the number of all rows, or None if it cannot be told from those that were seen."""
    sizes = [source.size for source in inputs.sources]
    known = [size for size in sizes if size is not None]
    if len(known) != len(sizes) or not inputs.position:
        return None
    return max(seen, round(seen * sum(known) / inputs.position))


def _tokens_per_second(engine: Engine, encoded: list[Encoded]) -> float:
    """Score more and more rows until that takes long enough to be measured."""
    # Rows at equal distances stand for all of them better than the first ones.
    count = 8
    while True:
        some = encoded[:: max(1, len(encoded) // count)][:count]
        start = time.perf_counter()
        engine.score(some)
        seconds = time.perf_counter() - start
        if seconds >= _SECONDS / 4 or len(some) == len(encoded) or count >= len(encoded):
            return sum(len(row.ids) for row in some) / max(seconds, 1e-9)
        count *= 4


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        minutes = round(seconds / 60)
        return "1 minute" if minutes == 1 else f"{minutes} minutes"
    if seconds < 2 * 86400:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 86400:.1f} days"

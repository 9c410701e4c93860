"""Input files to an output file: reading, running and writing overlap, window by window."""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harmless_runtime.engine import Batch, Engine
from harmless_runtime.errors import InputError
from harmless_runtime.output import OutputFiles, score_line
from harmless_runtime.records import Reject, read_lines
from harmless_runtime.windows import Row, Window, read_ahead

logger = logging.getLogger(__name__)

# Truncated rows that get a warning each, before they are only counted.
_TRUNCATION_WARNINGS = 5


@dataclass
class Tally:
    """What a run has done so far.

    `rows` counts the rows scored and `tokens` their tokens; `computed_tokens` those that were run,
    `padding` included and duplicate rows not; `input_bytes` is the size of the lines scored or
    rejected.
    """

    rows: int = 0
    rejected: int = 0
    truncated: int = 0
    tokens: int = 0
    computed_tokens: int = 0
    padding: int = 0
    input_bytes: int = 0

    @property
    def padding_share(self) -> float:
        """The share, 0 to 1, of the computed tokens that were padding."""
        return self.padding / self.computed_tokens if self.computed_tokens else 0.0


@dataclass(frozen=True)
class Summary:
    """A finished run; `seconds` is from the first read to the last write.

    `shapes` counts the shapes that batches had, and `planning_seconds` is what the first batch of
    each took longer than its like: on a GPU, the time to plan for the shape.
    """

    tally: Tally
    seconds: float
    provider: str
    precision: str
    shapes: int
    planning_seconds: float
    output: Path
    rejects: Path


def score_files(
    sources: Sequence[str],
    output: Path,
    engine: Engine,
    *,
    strict: bool = False,
    details: bool = False,
    overwrite: bool = False,
    on_progress: Callable[[Tally], None] = lambda _: None,
) -> Summary:
    """Score JSONL inputs into one JSONL output, a line a row, in input order.

    A line that cannot be scored goes to `output.rejects_path(output)` instead.

    Args:
        sources: paths, or `-` for standard input.
        output: where the scores go once all are there.
        engine: what scores.
        strict: raise at the first line that cannot be scored.
        details: add `tokens` and `truncated` to each line.
        overwrite: replace an existing output.
        on_progress: called after every batch, in the calling thread.

    Raises:
        InputError: an input cannot be read, or with `strict` a row cannot be scored.
        OutputError: the output exists, or cannot be written.
        SessionError: onnxruntime failed.
    """
    start = time.perf_counter()
    tally = Tally()
    output_files = OutputFiles(output, overwrite, sources)
    with output_files as files, ThreadPoolExecutor(1, "writer") as writer:
        written: Future[None] | None = None
        for window in read_ahead(read_lines(sources), engine.tokenizer, engine.limits):
            if strict and window.rejects:
                raise refusal(window.rejects[0])
            lines, rejects = _score_window(window, engine, tally, details, on_progress)
            if strict and rejects:
                raise refusal(rejects[0])
            if written is not None:
                written.result()
            written = writer.submit(files.write, lines, rejects)
        if written is not None:
            written.result()
    if tally.truncated > _TRUNCATION_WARNINGS:
        logger.warning("%d rows were truncated in all", tally.truncated)
    return Summary(
        tally,
        time.perf_counter() - start,
        engine.session.provider,
        engine.artifact.manifest.precision,
        engine.session.times.shapes,
        engine.session.times.planning_seconds,
        output,
        files.rejects,
    )


def _score_window(
    window: Window,
    engine: Engine,
    tally: Tally,
    details: bool,
    on_progress: Callable[[Tally], None],
) -> tuple[list[bytes], list[Reject]]:
    """Return a window's output lines and its rejects; a score that is not finite is rejected."""
    rows = window.rows

    def count(batch: Batch) -> None:
        scored = [rows[i] for i in batch.rows]
        tally.rows += len(scored)
        tally.tokens += sum(len(row.encoded.ids) for row in scored)
        tally.computed_tokens += batch.tokens
        tally.padding += batch.padding
        tally.input_bytes += sum(len(row.line.raw) for row in scored)
        on_progress(tally)

    for row in rows:
        if row.encoded.truncated:
            tally.truncated += 1
            if tally.truncated <= _TRUNCATION_WARNINGS:
                _warn_truncated(row)
    scores = iter(engine.score([row.encoded for row in rows], count))
    lines, rejects = [], []
    for item in window.items:
        if isinstance(item, Reject):
            tally.input_bytes += len(item.line.raw)
            rejects.append(item)
        elif np.isfinite(score := next(scores)):
            lines.append(score_line(item.id, score, item.encoded if details else None))
        else:
            rejects.append(Reject(item.line, engine.why_no_score(float(score))))
            tally.rows -= 1
    tally.rejected += len(rejects)
    on_progress(tally)
    return lines, rejects


def refusal(reject: Reject) -> InputError:
    """The error for a row that cannot be scored where every row has to be."""
    return InputError(f"{reject.line.source}, line {reject.line.number}: {reject.reason}")


def _warn_truncated(row: Row) -> None:
    logger.warning(
        "%s, line %d: truncated to %d tokens",
        row.line.source,
        row.line.number,
        len(row.encoded.ids),
    )

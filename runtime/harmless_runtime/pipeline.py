"""Input files to an output file: reading, running and writing overlap, window by window."""

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from harmless_runtime import __version__
from harmless_runtime.errors import InputError
from harmless_runtime.model.engine import Batch, Engine
from harmless_runtime.output.writer import OutputFiles
from harmless_runtime.rows.lines import score_line
from harmless_runtime.rows.records import STDIN, Line, Reject, check_sources, read_lines
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

    Of the tally, `resumed` was there before: the work of the run that this one went on from.
    """

    tally: Tally
    resumed: Tally
    seconds: float
    provider: str
    precision: str
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
    resume: bool = False,
    on_progress: Callable[[Tally], None] = lambda _: None,
) -> Summary:
    """Score JSONL inputs into one JSONL output, a line a row, in input order.

    A line that cannot be scored goes to `output.rejects_path(output)` instead. A run that ends
    early leaves what it has for `resume`, which makes the same bytes as a run that never did.

    Args:
        sources: paths, or `-` for standard input.
        output: where the scores go once all are there.
        engine: what scores.
        strict: raise at the first line that cannot be scored.
        details: add `tokens` and `truncated` to each line.
        overwrite: start again, and replace an existing output.
        resume: go on with the run that left the state beside the output; without one, start.
        on_progress: called at the start and after every batch, in the calling thread.

    Raises:
        InputError: an input cannot be read, or with `strict` a row cannot be scored.
        OutputError: the output exists, or cannot be written, or the run to be resumed was one of
            another input, model or setting.
        SessionError: onnxruntime failed.
    """
    start = time.perf_counter()
    check_sources(sources)
    output_files = OutputFiles(
        output, sources, fingerprint(sources, engine, details), overwrite=overwrite, resume=resume
    )
    counts = output_files.resumed.counts if output_files.resumed else {}
    tally, resumed = Tally(**counts), Tally(**counts)
    with output_files as files, ThreadPoolExecutor(1, "writer") as writer:
        written: Future[None] | None = None
        on_progress(tally)
        if strict and resumed.rejected:
            raise InputError(
                f"{resumed.rejected:,} lines were rejected before the run was interrupted, and "
                "strict allows none"
            )
        lines_left = _lines_left(files, sources, engine, resume)
        for window in read_ahead(lines_left, engine.tokenizer, engine.limits):
            if strict and window.rejects:
                raise refusal(window.rejects[0])
            lines, rejects = _score_window(window, engine, tally, details, on_progress)
            if strict and rejects:
                raise refusal(rejects[0])
            if written is not None:
                written.result()
            done = [item.line for item in window.items]
            written = writer.submit(files.write, lines, rejects, done, asdict(tally))
        if written is not None:
            written.result()
    if tally.truncated > _TRUNCATION_WARNINGS:
        logger.warning("%d rows were truncated in all", tally.truncated)
    return Summary(
        tally,
        resumed,
        time.perf_counter() - start,
        engine.session.provider,
        engine.artifact.manifest.precision,
        output,
        files.paths.rejects,
    )


def fingerprint(sources: Sequence[str], engine: Engine, details: bool) -> dict[str, Any]:
    """What decides the bytes of a run's output, by names for the user."""
    manifest, limits = engine.artifact.manifest, engine.limits
    content = msgspec.json.encode(manifest.unmeasured)
    # A name of a file may hold bytes that are not UTF-8.
    names = [os.fsencode(s).decode("utf-8", "backslashreplace") for s in sources]
    sizes = {
        f"the size of {name}": Path(source).stat().st_size
        for name, source in zip(names, sources, strict=True)
        if source != STDIN and Path(source).is_file()
    }
    return {
        "the input": names,
        **sizes,
        "the artifact's SHA-256": hashlib.sha256(content).hexdigest(),
        "precision": manifest.precision,
        "provider": engine.session.provider,
        "max_length": engine.tokenizer.max_length,
        "the batches' limits": [limits.batch_tokens, limits.batch_cost, limits.length_multiple],
        "the attention kernels": engine.session.attention,
        "the windows' limits": [limits.window_tokens, limits.window_rows, limits.window_bytes],
        "the longest line": limits.line_bytes,
        "--details": details,
        "fp32 for rows that overflow": engine.wider is not None,
        "the release": __version__,
    }


def _lines_left(
    files: OutputFiles, sources: Sequence[str], engine: Engine, resume: bool
) -> Iterator[Line]:
    """The lines of the input that no result is on the disk for."""
    if files.complete:
        return iter([])
    lines = read_lines(sources, engine.limits.line_bytes)
    if files.resumed is not None:
        logger.info("resuming: %s lines are done, and are compared", f"{files.resumed.lines:,}")
        files.consumed.skip(lines, files.resumed)
    elif resume:
        logger.info("there is nothing to resume: starting from the first line")
    return lines


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
            tokens = len(item.encoded.ids) if details else None
            truncated = item.encoded.truncated
            lines.append(score_line(item.id, score, tokens=tokens, truncated=truncated))
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

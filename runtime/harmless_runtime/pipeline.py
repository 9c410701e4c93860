"""Score the inputs of a run into its output: reading, scoring and writing overlap."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace

import numpy as np

from harmless_runtime.errors import InputError
from harmless_runtime.model.engine import Engine, ScoredBatch
from harmless_runtime.output.fingerprint import run_fingerprint
from harmless_runtime.output.writer import Output, open_output
from harmless_runtime.rows.output_lines import reject_line, score_line
from harmless_runtime.rows.records import Reject
from harmless_runtime.rows.sources import Line, find_source, read_lines
from harmless_runtime.run import Run
from harmless_runtime.tally import Summary, Tally
from harmless_runtime.windows import ReadAhead, Row, Window

logger = logging.getLogger(__name__)

# Truncated rows that get a warning each, before they are only counted.
_TRUNCATION_WARNINGS = 5


def score_files(
    run: Run, engine: Engine, on_progress: Callable[[Tally], None] = lambda _: None
) -> Summary:
    """Score the inputs of a run into its output, a line for each row, in input order.

    A line that cannot be scored goes to the rejects file, which `rejects_path` names, unless the
    run is strict. If a run ends early, `existing="resume"` continues it. The finished files are
    byte-identical to those of an uninterrupted run.

    Args:
        run: what is asked for.
        engine: what scores.
        on_progress: called at the start, after every batch and after every window, in the calling
            thread.

    Raises:
        InputError: an input cannot be read, or, if the run is strict, a row cannot be scored.
        OutputError: the output exists or cannot be written, or the run to be resumed had another
            input, model or setting.
        SessionError: ONNX Runtime failed.
    """
    start = time.perf_counter()
    # The inputs may have grown, or gone, while the model was loaded.
    run = replace(run, sources=tuple(find_source(source.where) for source in run.sources))
    with ExitStack() as stack:
        output = stack.enter_context(open_output(run, run_fingerprint(run, engine.fingerprint)))
        resumed = Tally(**output.resumed.counts) if output.resumed else Tally()
        on_progress(resumed)
        if run.strict and resumed.rejected:
            raise InputError(
                f"{resumed.rejected:,} lines were rejected before the run was interrupted, but "
                "strict allows no rejects"
            )
        lines = _lines_left(output, run, engine.limits.line_bytes)
        writer = stack.enter_context(WriteBehind(output))
        windows = stack.enter_context(ReadAhead(lines, engine.tokenizer, engine.limits))
        tally = resumed
        for window in raise_on_reject(windows) if run.strict else windows:
            scored = score_window(window, engine, run.details, tally, on_progress)
            if run.strict and scored.rejects:
                raise refusal(scored.rejects[0])
            tally += scored.tally
            writer.write(scored, window, tally)
            on_progress(tally)
    if tally.truncated > _TRUNCATION_WARNINGS:
        logger.warning("%s rows were truncated in all", f"{tally.truncated:,}")
    return Summary(
        tally,
        resumed,
        time.perf_counter() - start,
        engine.runner.provider,
        engine.artifact.manifest.precision,
        output.paths.rejects.final,
    )


def _lines_left(output: Output, run: Run, line_bytes: int) -> Iterator[Line]:
    """Return the input lines whose results are not on the disk yet."""
    if output.is_complete:
        return iter([])
    lines = read_lines(run.sources, line_bytes)
    if output.resumed is not None:
        logger.info(
            "resuming: checking that the input begins with the %s lines that are done",
            f"{output.resumed.lines:,}",
        )
        output.done.skip(lines, output.resumed)
    elif run.existing == "resume":
        logger.info("there is nothing to resume: starting with the first line")
    return lines


class WriteBehind:
    """Write each window in a thread while the next one is scored.

    The thread has at most one window: `write` waits until the window before is written.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._thread = ThreadPoolExecutor(1, "writer")
        self._pending: Future[None] | None = None

    def __enter__(self) -> "WriteBehind":
        return self

    def write(self, scored: "Scored", window: Window, tally: Tally) -> None:
        """Hand over a window's results. Raise the error of the window before, if it failed."""
        self.wait()
        rejects = b"".join(map(reject_line, scored.rejects))
        lines = [item.line for item in window.items]
        self._pending = self._thread.submit(
            self._output.write, b"".join(scored.lines), rejects, lines, asdict(tally)
        )

    def wait(self) -> None:
        """Wait until everything is written; raise OutputError if it failed."""
        if self._pending is not None:
            self._pending.result()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._thread.shutdown()
        if kind is None:
            self.wait()


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
    truncated = [row for row in rows if row.encoded.truncated]
    for row in truncated[: max(0, _TRUNCATION_WARNINGS - before.truncated)]:
        logger.warning(
            "%s, line %d: truncated to %d tokens",
            row.line.source,
            row.line.number,
            len(row.encoded.ids),
        )
    computed = Tally()

    def count(batch: ScoredBatch) -> None:
        nonlocal computed
        computed += Tally(computed_tokens=batch.tokens, padding=batch.padding)
        computed += _tally_of([rows[i] for i in batch.rows])
        on_progress(before + computed)

    scores = iter(engine.score([row.encoded for row in rows], count))
    lines, rejects = [], []
    for item in window.items:
        if isinstance(item, Reject):
            rejects.append(item)
        elif np.isfinite(score := next(scores)):
            tokens = len(item.encoded.ids) if details else None
            lines.append(
                score_line(item.id, score, tokens=tokens, truncated=item.encoded.truncated)
            )
        else:
            rejects.append(Reject(item.line, engine.why_no_score(float(score))))
    tally = Tally(
        rows=len(lines),
        rejected=len(rejects),
        truncated=len(truncated),
        tokens=computed.tokens,
        computed_tokens=computed.computed_tokens,
        padding=computed.padding,
        input_bytes=sum(len(item.line.raw) for item in window.items),
    )
    return Scored(lines, rejects, tally)


def _tally_of(rows: list[Row]) -> Tally:
    return Tally(
        rows=len(rows),
        tokens=sum(len(row.encoded.ids) for row in rows),
        input_bytes=sum(len(row.line.raw) for row in rows),
    )


def raise_on_reject(windows: Iterable[Window]) -> Iterator[Window]:
    """Yield windows; raise InputError at the first one with a line that cannot be scored."""
    for window in windows:
        if window.rejects:
            raise refusal(window.rejects[0])
        yield window


def refusal(reject: Reject) -> InputError:
    """Return the error for a row that cannot be scored in a run that allows no rejects."""
    return InputError(f"{reject.line.source}, line {reject.line.number}: {reject.reason}")

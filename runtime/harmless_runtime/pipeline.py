"""Score the inputs of a run into its output: reading, scoring and writing overlap."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from harmless_runtime.choices import Precision, Provider
from harmless_runtime.errors import StrictError
from harmless_runtime.model.engine import Engine
from harmless_runtime.output.checks import goes_on
from harmless_runtime.output.fingerprint import run_fingerprint, skip_finished
from harmless_runtime.output.opening import open_output
from harmless_runtime.output.paths import OutputPaths
from harmless_runtime.output.publish import object_url, publish
from harmless_runtime.output.record import earlier_fingerprint, finished_before
from harmless_runtime.output.writer import Output
from harmless_runtime.read_ahead import ReadAhead
from harmless_runtime.rows.output_lines import common_reasons, reject_line
from harmless_runtime.rows.pieces import PiecedRows
from harmless_runtime.rows.records import Pair, Reject
from harmless_runtime.rows.sources import valid_text
from harmless_runtime.run import Run
from harmless_runtime.scored import (
    TRUNCATION_WARNINGS,
    Scored,
    raise_on_reject,
    refusal,
    score_windows,
)
from harmless_runtime.tally import ScoreSample, Summary, Tally
from harmless_runtime.windows import Window

logger = logging.getLogger(__name__)

_STRICT = (
    "without `strict`, such rows are set aside in a file of rejects; or mend the row, and "
    "`overwrite` starts again"
)


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
        InputError: an input cannot be read.
        StrictError: a row cannot be scored, or could not be in an earlier run, and this one is
            strict.
        ShapeError: none of the first rows of a new run can be scored.
        OutputError: the output exists or cannot be written, or the run to be resumed had another
            input, model or setting.
        SessionError: ONNX Runtime failed.
    """
    start = time.perf_counter()
    # The inputs may have grown, or gone, while the model was loaded.
    run.inputs.look_again()
    run.inputs.shape(refuse=not goes_on(run))
    earlier = earlier_fingerprint(run)
    if earlier is not None:
        engine = engine.continuing(earlier)
    fingerprint = run_fingerprint(run, engine.fingerprint)
    model = engine.runner.target.provider, engine.precision
    record = finished_before(run, fingerprint)
    if record is not None:
        tally = Tally(**record.counts)
        _check_strict(run, tally)
        publish(run)
        return summary_of(run, model, tally, tally, start, [], is_old=True)
    with ExitStack() as stack:
        about = about_engine(engine)
        output = stack.enter_context(open_output(run, fingerprint, about))
        stack.enter_context(run.inputs.blamed())
        resumed = Tally(**output.resumed.counts) if output.resumed else Tally()
        about["resumed_rows"] = resumed.rows
        on_progress(resumed)
        _check_strict(run, resumed)
        pieces = PiecedRows(run.inputs, run.piece_bytes or engine.limits.piece_bytes)
        rows: Iterable[Pair | Reject] = _rows_left(output, run, pieces)
        if run.strict:
            rows = raise_on_reject(rows, _refusal)
        writer = stack.enter_context(WriteBehind(output))
        windows = stack.enter_context(
            ReadAhead(
                rows,
                engine.tokenizer,
                engine.limits,
                lambda: run.inputs.position,
                resumed.input_bytes,
                pieces.place,
            )
        )
        tally, sample = resumed, ScoreSample()
        results = score_windows(windows, engine, run.details, resumed, on_progress)
        for window, scored in stack.enter_context(closing(results)):
            if run.strict and scored.rejects:
                raise _refusal(scored.rejects[0])
            tally += scored.tally
            sample.add(scored.scores)
            writer.write(scored, window, tally)
            on_progress(tally)
        engine.artifact.check()  # there may have been no rows
        run.inputs.check_unchanged()
        about["seconds"] = round(time.perf_counter() - start, 3)
    # The rejects are read before they are put elsewhere.
    reasons = reasons_of(run) if tally.rejected else []
    publish(run)
    warn_of_truncated(tally)
    run.inputs.warn_of_empty()
    summary = summary_of(run, model, tally, resumed, start, reasons)
    return replace(summary, scores=sample.scores())


def warn_of_truncated(tally: Tally) -> None:
    """Log how many rows of a run lost tokens, if not each of them was logged."""
    if tally.truncated > TRUNCATION_WARNINGS:
        logger.warning("%s rows were truncated in all", f"{tally.truncated:,}")


def _refusal(reject: Reject) -> StrictError:
    """Return the error for a row that cannot be scored in a strict run."""
    return StrictError(str(refusal(reject, _STRICT)), _STRICT)


def _check_strict(run: Run, done: Tally) -> None:
    """Raise StrictError if an earlier run had rejects, and this one allows none."""
    if run.strict and done.rejected:
        raise StrictError(
            f"an earlier run had {done.rejected:,} rejects, but strict allows none",
            "without `strict`, `resume` goes on; or mend the rows, and `overwrite` starts again",
        )


def reasons_of(run: Run) -> list[tuple[str, int]]:
    """Return the commonest reasons of the rejects of a finished run."""
    with OutputPaths(run.output, run.is_folder).rejects.final.open("rb") as lines:
        return common_reasons(lines)


def summary_of(
    run: Run,
    model: tuple[Provider, Precision],
    tally: Tally,
    resumed: Tally,
    start: float,
    reasons: list[tuple[str, int]],
    *,
    is_old: bool = False,
) -> Summary:
    """Return what a run did.

    Args:
        run: what was asked for.
        model: the execution provider, and what the scores were computed in.
        tally: all that was done.
        resumed: the part of it that an earlier run had done.
        start: when this run began, by `time.perf_counter`.
        reasons: of the rejects.
        is_old: as in `Summary`.
    """
    rejects = OutputPaths(run.output, run.is_folder).rejects.final
    return Summary(
        tally,
        resumed,
        time.perf_counter() - start,
        *model,
        run.name,
        str(rejects) if run.url is None else object_url(run, rejects.name),
        reasons,
        is_old,
    )


def about_engine(engine: Engine) -> dict[str, Any]:
    """Return the facts about the model that the record of a run tells."""
    manifest = engine.artifact.manifest
    return {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "scorer": engine.scorer,
        "artifact": valid_text(str(engine.artifact.folder.absolute())),
        "checkpoint": manifest.source,
        "revision": manifest.revision,
        "parity": manifest.parity,
    }


def _rows_left(output: Output, run: Run, pieces: PiecedRows) -> Iterator[Pair | Reject]:
    """Return the rows whose results are not on the disk yet."""
    rows = pieces.rows()
    if output.resumed is not None:
        logger.info(
            "resuming: checking that the input begins with the %s lines that are done",
            f"{output.resumed.lines:,}",
        )
        skip_finished(output.done, rows, output.resumed)
        if output.is_complete:
            return iter([])
        pieces.skip(output.resumed.lines)
    elif run.existing == "resume":
        logger.info("there is nothing to resume: starting with the first line")
    return rows


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

    def write(self, scored: Scored, window: Window, tally: Tally) -> None:
        """Hand over a window's results. Raise the error of the window before, if it failed."""
        self.wait()
        rejects = b"".join(map(reject_line, scored.rejects))
        rows = [item if isinstance(item, Reject) else item.pair for item in window.items]
        self._pending = self._thread.submit(
            self._output.write, b"".join(scored.lines), rejects, rows, asdict(tally)
        )

    def wait(self) -> None:
        """Wait until everything is written; raise OutputError if it failed."""
        if self._pending is not None:
            self._pending.result()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._thread.shutdown()
        if kind is None:
            self.wait()

"""Score a run on Ray: hand out pieces to workers, and put their results together."""

import logging
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from harmless_runtime.cluster.connection import Resources
from harmless_runtime.cluster.divisible import check_divisible
from harmless_runtime.cluster.leftovers import (
    complete_before,
    discard_pieces,
    earlier_plan,
    pieces_of_run,
    storage_of,
)
from harmless_runtime.cluster.making import can_be_shared, make_on_workers
from harmless_runtime.cluster.manifest import Manifest, Plan, make_plan
from harmless_runtime.cluster.merge import merge
from harmless_runtime.cluster.pool import Pool
from harmless_runtime.cluster.results import results_of, rows_of_inputs
from harmless_runtime.cluster.schedule import TRIES, score_pieces
from harmless_runtime.config import ScorerConfig
from harmless_runtime.errors import InputError, OutputError
from harmless_runtime.output import disk
from harmless_runtime.output.checks import check_output, goes_on
from harmless_runtime.output.fingerprint import run_fingerprint, skip_finished
from harmless_runtime.output.finish import make_here
from harmless_runtime.output.opening import lock_output, resumed_state
from harmless_runtime.output.paths import OutputPaths
from harmless_runtime.output.publish import put_results, remove_staged
from harmless_runtime.output.state import Claim, Fingerprint, State
from harmless_runtime.pipeline import reasons_of, summary_of, warn_of_truncated
from harmless_runtime.rows.digest import InputDigest
from harmless_runtime.rows.pieces import pieces_of
from harmless_runtime.run import Run
from harmless_runtime.tally import Summary, Tally

logger = logging.getLogger(__name__)

# The smallest pieces are those on a CPU.
_LEAST_PIECE_BYTES = 2**20


def score_on_ray(
    run: Run,
    config: ScorerConfig,
    resources: Resources,
    on_progress: Callable[[Tally], None] = lambda _: None,
) -> Summary:
    """Score the inputs of a run on Ray. The output is that of one machine, byte for byte.

    Args:
        run: what is asked for. Its output is in a folder that all machines reach, or in an object
            store.
        config: the settings. The model is a folder that all machines reach, or a checkpoint.
        resources: which Ray, and how many workers.
        on_progress: called about every second, in the calling thread.

    Raises:
        ConfigError: ray is missing, or the run cannot be divided.
        InputError: an input has changed, or pieces could not be scored. What could is kept, and
            `resume` goes on.
        OutputError: as `score_files`, or the workers' models differ.
        SessionError: no worker could be started, or the Ray of this run has ended.
    """
    start = time.perf_counter()
    check_divisible(run, config)
    check_output(run)
    with lock_output(run):
        earlier = earlier_plan(run)
        run.inputs.look_again()
        run.inputs.shape(refuse=not goes_on(run))
        with Pool(config, resources, _most_pieces(run)) as pool:
            fingerprint = run_fingerprint(run, pool.model.fingerprint)
            done = complete_before(run, fingerprint, earlier)
            if done is not None:
                summary = _summary(run, pool, done, done, start, is_old=True)
            else:
                summary = _score(run, pool, fingerprint, earlier, start, on_progress)
        put_results(run)
        try:
            discard_pieces(run)
        except OutputError as error:
            logger.warning("the output is complete, but its pieces cannot be removed: %s", error)
        remove_staged(run)
    return summary


def _score(
    run: Run,
    pool: Pool,
    fingerprint: Fingerprint,
    earlier: Plan | None,
    start: float,
    on_progress: Callable[[Tally], None],
) -> Summary:
    """Score what an earlier run with this plan has left, or all, and write the locked output."""
    may_replace = earlier.replace if earlier else run.existing == "overwrite"
    written = replace(run, existing="overwrite") if may_replace else run
    state = resumed_state(written, fingerprint)
    if state is not None and earlier is None:
        if state.complete:  # only its files are not made yet, or lack their final names
            skip_finished(InputDigest(), run.inputs.rows(), state)
            tally, _ = merge(written, fingerprint, pool.model.about, [], make_here)
            return _summary(run, pool, tally, tally, start)
        logger.info("what was scored without Ray is scored again")
    pieces = pieces_of(run.inputs, run.piece_bytes or pool.model.piece_bytes)
    if pool.asked and len(pieces) < pool.asked:
        logger.info("there are fewer pieces (%d) than workers were asked for", len(pieces))
    plan = make_plan(fingerprint, pieces, replace=may_replace)
    folder = pieces_of_run(run)
    with disk.os_errors_named(folder):
        manifest = Manifest(folder, storage_of(run), plan, pieces)
        resumed = manifest.tally
        on_progress(resumed)
        failures = score_pieces(run, pool, manifest, pieces, on_progress)
    run.inputs.check_unchanged()
    if failures:
        raise InputError(
            f"{len(failures)} of {len(pieces)} pieces could not be scored in {TRIES} tries each; "
            f"the first is {failures[0].name}: {failures[0].reason}",
            "the others are kept: `resume` tries these again",
        )
    _tell_spread(manifest)
    about = {**pool.model.about, "pieces": _told(manifest), "resumed_rows": resumed.rows}
    about["seconds"] = round(time.perf_counter() - start, 3)
    results = results_of(pieces, manifest)
    run.inputs.counts = rows_of_inputs(pieces, manifest)
    is_shared = can_be_shared(run)
    if not is_shared:
        pool.dismiss()

    def make(run: Run, paths: OutputPaths, state: State) -> list[Claim]:
        if is_shared:
            return make_on_workers(run, pool, pieces, results)
        return make_here(run, paths, state)

    tally, scores = merge(written, fingerprint, about, results, make)
    warn_of_truncated(tally)
    run.inputs.warn_of_empty()
    if tally.with_marks:
        logger.warning(
            "%s rows hold marks of chat templates that are scored as words (a run with `strict` on "
            "one machine names the first of them)",
            f"{tally.with_marks:,}",
        )
    return replace(_summary(run, pool, tally, resumed, start), scores=scores)


def _summary(
    run: Run, pool: Pool, tally: Tally, resumed: Tally, start: float, *, is_old: bool = False
) -> Summary:
    model = pool.model.provider, pool.model.precision
    reasons = reasons_of(run) if tally.rejected and not is_old else []
    return summary_of(run, model, tally, resumed, start, reasons, is_old=is_old)


def _most_pieces(run: Run) -> int:
    """Return the most pieces that a run may have. How large they are is known with the model."""
    sizes = [source.size or 0 for source in run.inputs.sources]
    return sum(1 + size // (run.piece_bytes or _LEAST_PIECE_BYTES) for size in sizes)


def _told(manifest: Manifest) -> list[dict[str, Any]]:
    """Return the facts about all pieces for the record."""
    return [
        {"node": a.node, "rows": a.rows, "seconds": round(a.seconds, 3), "tries": a.tries}
        for _, a in sorted(manifest.done.items())
    ]


def _tell_spread(manifest: Manifest) -> None:
    """Log how long pieces took, so that a slow machine is seen."""
    attempts = list(manifest.done.values())
    if len(attempts) < 2:
        return
    machines = len({attempt.node for attempt in attempts})
    slowest = max(attempts, key=lambda attempt: attempt.seconds)
    logger.info(
        "%d pieces on %s took %.0f s each (median), the slowest %.0f s on %s; %d were tried again",
        len(attempts),
        "1 machine" if machines == 1 else f"{machines} machines",
        statistics.median(attempt.seconds for attempt in attempts),
        slowest.seconds,
        slowest.node,
        sum(attempt.tries > 1 for attempt in attempts),
    )

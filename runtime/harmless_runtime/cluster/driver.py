"""Score a run on Ray: hand out pieces to workers, and put their results together."""

import logging
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from harmless_runtime.cluster.connection import Resources
from harmless_runtime.cluster.making import can_be_shared, make_on_workers
from harmless_runtime.cluster.manifest import (
    Manifest,
    Plan,
    discard,
    make_plan,
    pieces_folder,
    read_plan,
    versions_of,
)
from harmless_runtime.cluster.merge import merge
from harmless_runtime.cluster.pool import Pool
from harmless_runtime.cluster.results import results_of
from harmless_runtime.cluster.schedule import TRIES, score_pieces
from harmless_runtime.cluster.storage import Storage
from harmless_runtime.config import ScorerConfig
from harmless_runtime.errors import ConfigError, InputError, OutputError
from harmless_runtime.output import disk
from harmless_runtime.output.checks import check_output
from harmless_runtime.output.fingerprint import run_fingerprint
from harmless_runtime.output.finish import make_here
from harmless_runtime.output.locks import held_lock
from harmless_runtime.output.paths import OutputPaths
from harmless_runtime.output.publish import publish
from harmless_runtime.output.record import finished_before
from harmless_runtime.output.state import Claim, State
from harmless_runtime.pipeline import reasons_of, summary_of
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
        InputError: pieces could not be scored. What could is kept, and `resume` goes on.
        OutputError: as `score_files`, or the workers' models differ.
        SessionError: no worker could be started.
    """
    start = time.perf_counter()
    folder = pieces_folder(run.output)
    _check(run, folder)
    check_output(run)
    with _locked(folder):
        plan = _interrupted(run, folder)
        return _score(run, config, resources, folder, plan, start, on_progress)


def remove_pieces(run: Run) -> None:
    """Remove what an interrupted run on Ray has left, before its output is written without Ray.

    Raises:
        OutputError: there is something, and it may not be replaced.
    """
    folder = pieces_folder(run.output)
    with _locked(folder):
        if _interrupted(run, folder) is not None:
            raise OutputError(
                f"{folder} holds the pieces of an interrupted run on Ray",
                "`engine` ray and `resume` continue it, `overwrite` starts again",
            )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with disk.os_errors_named(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = held_lock(folder.with_name(f"{folder.name}.lock"))
    with lock:
        yield


def _interrupted(run: Run, folder: Path) -> Plan | None:
    """Return the plan of an interrupted run that this one continues, or None if it starts anew."""
    plan = read_plan(folder)
    if run.existing == "refuse" and plan is not None:
        raise OutputError(
            f"{folder} holds the pieces of an interrupted run",
            "`resume` continues it, `overwrite` starts again",
        )
    if run.existing == "overwrite":
        discard(folder, storage_of(run))
        return None
    return plan


def _score(
    run: Run,
    config: ScorerConfig,
    resources: Resources,
    folder: Path,
    earlier: Plan | None,
    start: float,
    on_progress: Callable[[Tally], None],
) -> Summary:
    """Score what an earlier run with this plan has left, or all, and write the output."""
    run.inputs.look_again()
    run.inputs.shape()
    storage = storage_of(run)
    with Pool(config, resources, _most_pieces(run)) as pool:
        pieces = pieces_of(run.inputs, run.piece_bytes or pool.model.piece_bytes)
        if resources.workers and len(pieces) < resources.workers:
            logger.info("there are fewer pieces (%d) than workers were asked for", len(pieces))
        model = pool.model.provider, pool.model.precision
        fingerprint = run_fingerprint(run, pool.model.fingerprint)
        record = None if earlier else finished_before(run, fingerprint)
        if record is not None:
            tally = Tally(**record.counts)
            publish(run)
            return summary_of(run, model, tally, tally, start, [], is_old=True)
        may_replace = earlier.replace if earlier else run.existing == "overwrite"
        plan = make_plan(fingerprint, pieces, replace=may_replace)
        with disk.os_errors_named(folder):
            manifest = Manifest(folder, storage, plan, pieces)
            resumed = manifest.tally
            on_progress(resumed)
            failures = score_pieces(run, pool, manifest, pieces, on_progress)
        if failures:
            raise InputError(
                f"{len(failures)} of {len(pieces)} pieces could not be scored in {TRIES} tries "
                f"each; the first is {failures[0].name}: {failures[0].reason}",
                "the others are kept: `resume` tries these again",
            )
        _check_unchanged(run)
        _tell_spread(manifest)
        about = {**pool.model.about, "pieces": _told(manifest), "resumed_rows": resumed.rows}
        about["seconds"] = round(time.perf_counter() - start, 3)
        results = results_of(pieces, manifest)
        is_shared = can_be_shared(run)
        if not is_shared:
            pool.dismiss()

        def make(run: Run, paths: OutputPaths, state: State) -> list[Claim]:
            if is_shared:
                return make_on_workers(run, pool, pieces, results)
            return make_here(run, paths, state)

        written = replace(run, existing="overwrite") if may_replace else run
        tally, scores = merge(written, fingerprint, about, results, make)
    reasons = reasons_of(run) if tally.rejected else []
    publish(run)
    try:
        discard(folder, storage)
    except (OSError, OutputError) as error:
        logger.warning("the output is complete, but its pieces cannot be removed: %s", error)
    return replace(summary_of(run, model, tally, resumed, start, reasons), scores=scores)


def storage_of(run: Run) -> Storage:
    """Return where the results of the pieces of a run are put: beside its output."""
    if run.url is not None:
        return Storage(f"{run.url.rstrip('/')}.pieces")
    return Storage(str(pieces_folder(run.output).absolute()))


def _check_unchanged(run: Run) -> None:
    """Raise OutputError if an input has changed since it was scored."""
    before = run.inputs.sources
    run.inputs.look_again()
    for then, now in zip(before, run.inputs.sources, strict=True):
        if versions_of([then]) != versions_of([now]):
            raise OutputError(
                f"{then.name} changed after it was scored", "`resume` scores its pieces again"
            )


def _most_pieces(run: Run) -> int:
    """Return the most pieces that a run may have. How large they are is known with the model."""
    sizes = [source.size or 0 for source in run.inputs.sources]
    return sum(1 + size // (run.piece_bytes or _LEAST_PIECE_BYTES) for size in sizes)


def _check(run: Run, folder: Path) -> None:
    """Check that a run can be divided into pieces that other machines can read.

    Raises:
        ConfigError: it cannot.
        OutputError: an input is in the folder of the pieces.
    """
    for source in run.inputs.sources:
        is_local = source.kind == "file"
        if is_local and Path(source.where).resolve().is_relative_to(folder.resolve()):
            raise OutputError(
                f"{source.name} is an input, and the run needs {folder} for its pieces",
                "choose another output",
            )
        if not source.can_be_opened_again:
            raise ConfigError(f"{source.name} can be read only once, and by one machine")
    if run.strict:
        raise ConfigError("strict stops at the first row of one machine", "leave `strict` out")


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
    slowest = max(attempts, key=lambda attempt: attempt.seconds)
    logger.info(
        "%d pieces on %d machines took %.0f s each (median), the slowest %.0f s on %s; %d were "
        "tried again",
        len(attempts),
        len({attempt.node for attempt in attempts}),
        statistics.median(attempt.seconds for attempt in attempts),
        slowest.seconds,
        slowest.node,
        sum(attempt.tries > 1 for attempt in attempts),
    )

"""Score a run on Ray: hand out pieces to workers, and put their results together."""

import logging
import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from harmless_runtime.cluster.manifest import Attempt, Manifest, make_plan, pieces_folder
from harmless_runtime.cluster.merge import merge
from harmless_runtime.cluster.pool import Pool, Resources
from harmless_runtime.cluster.worker import Task
from harmless_runtime.config import ScorerConfig
from harmless_runtime.errors import ConfigError, InputError, OutputError
from harmless_runtime.output.checks import check_output
from harmless_runtime.output.fingerprint import run_fingerprint
from harmless_runtime.output.paths import OutputPaths
from harmless_runtime.output.record import finished_before
from harmless_runtime.rows.output_lines import common_reasons
from harmless_runtime.rows.pieces import pieces_of
from harmless_runtime.run import Run
from harmless_runtime.tally import Summary, Tally

logger = logging.getLogger(__name__)

# How often a piece is tried.
TRIES = 3


@dataclass(frozen=True)
class Failure:
    """A piece that could not be scored, and why."""

    names: list[str]
    reason: str


def score_on_ray(
    run: Run,
    config: ScorerConfig,
    resources: Resources,
    on_progress: Callable[[Tally], None] = lambda _: None,
) -> Summary:
    """Score the inputs of a run on Ray. The output is that of one machine, byte for byte.

    Args:
        run: what is asked for. Its output is on storage that all machines reach.
        config: the settings. The model is a folder that all machines reach, or a checkpoint.
        resources: which Ray, and how many workers.
        on_progress: called when a piece is done, in the calling thread.

    Raises:
        ConfigError: ray is missing, or the run cannot be divided.
        InputError: pieces could not be scored. What could is kept, and `resume` goes on.
        OutputError: as `score_files`, or the workers' models differ.
        SessionError: no worker could be started.
    """
    start = time.perf_counter()
    _check(run)
    check_output(run)
    folder = pieces_folder(run.output)
    if run.existing == "refuse" and folder.exists():
        raise OutputError(
            f"{folder} holds the pieces of an interrupted run",
            "`resume` continues it, `overwrite` starts again",
        )
    run.inputs.look_again()
    run.inputs.shape()
    pieces = pieces_of(run.inputs.sources, run.piece_bytes)
    with Pool(config, resources, len(pieces)) as pool:
        fingerprint = run_fingerprint(run, pool.model.fingerprint)
        record = finished_before(run, fingerprint)
        if record is not None:
            return _summary(run, pool, Tally(**record.counts), Tally(), start, [], is_old=True)
        if run.existing == "overwrite":
            Manifest.discard(folder)
        plan = make_plan(fingerprint, [[s.name for s in sources] for sources in pieces])
        manifest = Manifest(folder, plan)
        resumed = _sum(manifest)
        on_progress(resumed)
        failures = _score_pieces(run, pool, manifest, pieces, on_progress)
        if failures:
            names = ", ".join(failures[0].names[:3])
            raise InputError(
                f"{len(failures)} of {len(pieces)} pieces could not be scored in {TRIES} tries "
                f"each; the first is {names}: {failures[0].reason}",
                "the others are kept: `resume` tries these again",
            )
        _tell_spread(manifest)
        about = {**pool.model.about, "pieces": _told(manifest), "resumed_rows": resumed.rows}
        about["seconds"] = round(time.perf_counter() - start, 3)
    tally = merge(run, fingerprint, about, pieces, manifest, on_progress=lambda _: None)
    Manifest.discard(folder)
    reasons = []
    if tally.rejected:
        with OutputPaths(run.output, run.is_folder).rejects.final.open("rb") as lines:
            reasons = common_reasons(lines)
    return _summary(run, pool, tally, resumed, start, reasons)


def _check(run: Run) -> None:
    """Raise ConfigError if a run cannot be divided into pieces that other machines can read."""
    for source in run.inputs.sources:
        if not source.can_be_opened_again:
            raise ConfigError(f"{source.name} can be read only once, and by one machine")
    if run.url is not None:
        raise ConfigError("the output of a cluster is on a shared folder", "name a path")
    if run.strict:
        raise ConfigError("strict stops at the first row of one machine", "leave `strict` out")


def _score_pieces(
    run: Run,
    pool: Pool,
    manifest: Manifest,
    pieces: list[tuple[Any, ...]],
    on_progress: Callable[[Tally], None],
) -> list[Failure]:
    """Score all pieces that are not done; return those that failed too often."""
    todo = deque(number for number in range(len(pieces)) if number not in manifest.done)
    tries = dict.fromkeys(todo, 0)
    failures = []

    def task(piece: int) -> Task:
        tries[piece] += 1
        return Task(
            piece,
            pieces[piece],
            run.inputs.reading,
            run.inputs.shape(),
            run.details,
            manifest.folder.absolute(),
            f"{piece:06d}-{uuid4().hex[:12]}",
            tries[piece],
        )

    while todo or pool.is_busy:
        while todo and pool.has_room:
            pool.start(task(todo.popleft()))
        for asked, outcome in pool.wait():
            if isinstance(outcome, Attempt):
                manifest.add(outcome)
                on_progress(_sum(manifest))
            elif tries[asked.piece] < TRIES:
                logger.warning("piece %d is tried again: %s", asked.piece, outcome)
                todo.append(asked.piece)
            else:
                names = [source.name for source in asked.sources]
                failures.append(Failure(names, str(outcome)))
    return failures


def _sum(manifest: Manifest) -> Tally:
    tally = Tally()
    for attempt in manifest.done.values():
        tally += Tally(**attempt.counts)
    return tally


def _told(manifest: Manifest) -> list[dict[str, Any]]:
    """Return the facts about all pieces for the record."""
    return [
        {"node": a.node, "rows": a.lines, "seconds": round(a.seconds, 3), "tries": a.tries}
        for _, a in sorted(manifest.done.items())
    ]


def _tell_spread(manifest: Manifest) -> None:
    """Log how long pieces took, so that a slow machine is seen."""
    attempts = list(manifest.done.values())
    if not attempts:
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


def _summary(
    run: Run,
    pool: Pool,
    tally: Tally,
    resumed: Tally,
    start: float,
    reasons: list[tuple[str, int]],
    *,
    is_old: bool = False,
) -> Summary:
    return Summary(
        tally,
        resumed,
        time.perf_counter() - start,
        pool.model.provider,
        pool.model.precision,
        run.name,
        str(OutputPaths(run.output, run.is_folder).rejects.final),
        reasons,
        is_old,
    )

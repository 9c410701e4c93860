"""Hand out pieces to workers, and try again what failed."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harmless_runtime.cluster.manifest import Attempt, Manifest
from harmless_runtime.cluster.pool import Pool
from harmless_runtime.cluster.storage import attempt_name
from harmless_runtime.cluster.worker import Task
from harmless_runtime.rows.pieces import Piece
from harmless_runtime.run import Run
from harmless_runtime.tally import Tally

logger = logging.getLogger(__name__)

# How often a piece is tried.
TRIES = 3


@dataclass(frozen=True)
class Failure:
    """A piece that could not be scored, and why."""

    piece: Piece
    reason: str

    @property
    def name(self) -> str:
        """The inputs of the piece, in words."""
        names = [source.name for source in self.piece[:3]]
        span = self.piece[0].span
        where = "" if span is None else f", {span.unit} {span.begin:,} to {span.end:,}"
        return ", ".join(names) + where


def score_pieces(
    run: Run,
    pool: Pool,
    manifest: Manifest,
    pieces: Sequence[Piece],
    on_progress: Callable[[Tally], None],
) -> list[Failure]:
    """Score all pieces that are not done; return those that failed too often.

    Args:
        run: what was asked for.
        pool: the workers.
        manifest: knows what is done, and is told of more.
        pieces: the inputs of each piece.
        on_progress: called about every second with what is done, also of pieces under way.
    """
    todo = deque(number for number in range(len(pieces)) if number not in manifest.done)
    tries = dict.fromkeys(todo, 0)
    failures = []

    def task(number: int) -> Task:
        tries[number] += 1
        return Task(
            number,
            pieces[number],
            run.inputs.reading,
            run.inputs.shape(),
            run.details,
            manifest.storage,
            attempt_name(number),
            tries[number],
        )

    while todo or pool.is_busy:
        while todo and pool.has_room:
            pool.start(task(todo.popleft()))
        for asked, outcome in pool.wait():
            if isinstance(outcome, Attempt):
                manifest.add(outcome)
            elif tries[asked.number] < TRIES:
                logger.warning("piece %d is tried again: %s", asked.number, outcome)
                todo.append(asked.number)
            else:
                failures.append(Failure(asked.piece, str(outcome)))
        on_progress(sum(pool.under_way, manifest.tally))
    return failures

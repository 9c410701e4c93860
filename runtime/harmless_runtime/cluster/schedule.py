"""Hand out pieces to workers, and try again what failed."""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from harmless_runtime.cluster.manifest import Attempt, Manifest, attempt_name
from harmless_runtime.cluster.pool import Pool
from harmless_runtime.cluster.worker import Task
from harmless_runtime.rows.sources import Source
from harmless_runtime.run import Run

logger = logging.getLogger(__name__)

# How often a piece is tried.
TRIES = 3


@dataclass(frozen=True)
class Failure:
    """A piece that could not be scored, and why."""

    names: list[str]
    reason: str


def score_pieces(
    run: Run,
    pool: Pool,
    manifest: Manifest,
    pieces: list[tuple[Source, ...]],
    on_piece: Callable[[], None],
) -> list[Failure]:
    """Score all pieces that are not done; return those that failed too often.

    Args:
        run: what was asked for.
        pool: the workers.
        manifest: knows what is done, and is told of more.
        pieces: the inputs of each piece.
        on_piece: called after each piece.
    """
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
            attempt_name(piece),
            tries[piece],
        )

    while todo or pool.is_busy:
        while todo and pool.has_room:
            pool.start(task(todo.popleft()))
        for asked, outcome in pool.wait():
            if isinstance(outcome, Attempt):
                manifest.add(outcome)
                on_piece()
            elif tries[asked.piece] < TRIES:
                logger.warning("piece %d is tried again: %s", asked.piece, outcome)
                todo.append(asked.piece)
            else:
                names = [source.name for source in asked.sources]
                failures.append(Failure(names, str(outcome)))
    return failures

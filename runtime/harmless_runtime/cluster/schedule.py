"""Hand out work to workers, and try again what failed."""

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from harmless_runtime.cluster.manifest import Manifest
from harmless_runtime.cluster.pool import Failed, Pool, Work
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

    def task(number: int, tries: int) -> Task:
        return Task(
            number,
            pieces[number],
            run.inputs.reading,
            run.inputs.shape(),
            run.details,
            manifest.storage,
            attempt_name(number),
            tries,
        )

    failures = hand_out(
        pool,
        [number for number in range(len(pieces)) if number not in manifest.done],
        task,
        lambda _, attempt: manifest.add(attempt),
        lambda: on_progress(sum(pool.under_way, manifest.tally)),
    )
    return [Failure(pieces[number], reason) for number, reason in failures]


def hand_out(
    pool: Pool,
    numbers: Iterable[int],
    make: Callable[[int, int], Work],
    on_done: Callable[[Any, Any], None],
    on_progress: Callable[[], None] = lambda: None,
) -> list[tuple[int, str]]:
    """Let workers do tasks; return the numbers of those that failed too often, and why.

    Args:
        pool: the workers.
        numbers: of the tasks.
        make: makes a task of its number, and of how often it is tried now.
        on_done: called with each task and its result.
        on_progress: called about every second.
    """
    todo = deque(numbers)
    tries: Counter[int] = Counter()
    failures = []
    while todo or pool.is_busy:
        while todo and pool.has_room:
            number = todo.popleft()
            tries[number] += 1
            pool.start(make(number, tries[number]))
        for work, outcome in pool.wait():
            if not isinstance(outcome, Failed):
                on_done(work, outcome)
            elif tries[work.number] < TRIES:
                logger.warning("piece %d is tried again: %s", work.number, outcome.reason)
                todo.append(work.number)
            else:
                failures.append((work.number, outcome.reason))
        on_progress()
    return failures

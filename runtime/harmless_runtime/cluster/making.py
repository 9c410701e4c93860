"""Make the files of a folder on the workers: those of different inputs at the same time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import ClassVar

from harmless_runtime.cluster.pool import Pool
from harmless_runtime.cluster.results import Result
from harmless_runtime.cluster.schedule import hand_out
from harmless_runtime.cluster.scratch import scratch_folder
from harmless_runtime.cluster.storage import attempt_name
from harmless_runtime.errors import OutputError
from harmless_runtime.output import disk
from harmless_runtime.output.finish import claim_of
from harmless_runtime.output.state import Claim
from harmless_runtime.rows.digest import InputDigest
from harmless_runtime.rows.inputs import Inputs
from harmless_runtime.rows.pieces import Piece
from harmless_runtime.run import Run
from harmless_runtime.scores.make import make_results
from harmless_runtime.scores.targets import targets_of


@dataclass(frozen=True)
class MakeTask:
    """Files that are to be made of some inputs, which are whole pieces together.

    Attributes:
        number: of the task.
        run: what was asked for, with these inputs alone.
        results: those of the pieces.
        attempt: the name of the attempt, which no other one has.
    """

    method: ClassVar[str] = "make"
    is_certain: ClassVar[bool] = True

    number: int
    run: Run
    results: tuple[Result, ...]
    attempt: str

    def make(self) -> list[Claim]:
        """Make the files here, and put each into the storage under its number.

        Raises:
            OutputError, InputError, ConfigError: as `make_results`.
        """
        rows = InputDigest()
        for result in self.results:
            rows.add_part(result.attempt.rows, result.attempt.digest)
        claims = []
        with scratch_folder() as folder:
            scores, rejects = folder / "scores", folder / "rejects"
            with scores.open("wb") as score_lines, rejects.open("wb") as reject_lines:
                for result in self.results:
                    details = self.run.details
                    score_lines.writelines(chain.from_iterable(result.scores(details=details)))
                    reject_lines.writelines(chain.from_iterable(result.rejects()))
            inputs = Inputs(
                [source.seen_here() for source in self.run.inputs.sources],
                self.run.inputs.reading,
                self.run.inputs.shape(),
            )
            run = replace(self.run, inputs=inputs, output=folder / "made")
            make_results(run, scores, rejects, rows.lines, rows.text)
            for number, target in enumerate(targets_of(run)):
                claims.append(claim_of(target.made))
                self.results[0].storage.put(target.made, self.attempt, str(number))
        return claims


def can_be_shared(run: Run) -> bool:
    """Return whether workers can make the files of a run.

    They can if each input has its own file in a folder that they reach. Tables of scores are made
    by the driver, because the type of their ids depends on all rows.
    """
    if not run.is_folder or run.url is not None:
        return False
    return run.join is not None or all(t.form.kind == "JSON lines" for t in targets_of(run))


def make_on_workers(
    run: Run, pool: Pool, pieces: Sequence[Piece], results: Sequence[Result]
) -> list[Claim]:
    """Make the files of a run on the workers, under their temporary names.

    Returns:
        What is in each, in the order of the targets.

    Raises:
        OutputError, InputError, ConfigError: as `make_results`, or workers died too often.
    """
    tasks = list(_tasks(run, pieces, results))
    claims: list[list[Claim]] = [[] for _ in tasks]
    storage = results[0].storage

    def done(task: MakeTask, made: list[Claim]) -> None:
        claims[task.number] = made
        for number, target in enumerate(targets_of(task.run)):
            target.made.parent.mkdir(parents=True, exist_ok=True)
            disk.rename(Path(storage.where, task.attempt, str(number)), target.made)

    failures = hand_out(
        pool,
        range(len(tasks)),
        lambda number, _: replace(tasks[number], attempt=attempt_name(number)),
        done,
    )
    if failures:
        number, reason = failures[0]
        name = tasks[number].run.inputs.sources[0].name
        raise OutputError(f"the output of {name} could not be made: {reason}", "`resume` tries it")
    return [claim for made in claims for claim in made]


def _tasks(run: Run, pieces: Sequence[Piece], results: Sequence[Result]) -> Iterator[MakeTask]:
    """Yield a task for each piece of whole inputs, and one for all spans of an input."""
    starts = [i for i, piece in enumerate(pieces) if not piece[0].is_continued]
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], len(pieces)], strict=True)):
        sources = [replace(source, span=None) for source in pieces[start]]
        inputs = Inputs(sources, run.inputs.reading, run.inputs.shape())
        own = replace(run, inputs=inputs)
        yield MakeTask(number, own, tuple(results[start:end]), "")

"""Put the results of all pieces together, in the order of the rows, as one machine writes them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmless_runtime.cluster.results import Blocks, Result
from harmless_runtime.errors import OutputError
from harmless_runtime.output.checks import check_output
from harmless_runtime.output.finish import MakeFiles
from harmless_runtime.output.opening import open_locked
from harmless_runtime.output.state import START_AGAIN, State
from harmless_runtime.rows.digest import InputDigest
from harmless_runtime.run import Run
from harmless_runtime.scores.log import decode_score
from harmless_runtime.tally import ScoreSample, Tally


def merge(
    run: Run,
    fingerprint: Mapping[str, Any],
    about: Mapping[str, Any],
    results: Sequence[Result],
    make_files: MakeFiles,
) -> tuple[Tally, NDArray[np.float32]]:
    """Write the locked output of a run of which all pieces are scored.

    The rows are not read for that. What an interrupted merge has written is written again.

    Args:
        run: what was asked for.
        fingerprint: what decided the results.
        about: facts for the record.
        results: those of all pieces.
        make_files: makes the files that were asked for, if these are not lines of scores.

    Returns:
        What was done in all, and scores as `ScoreSample` keeps them.

    Raises:
        OutputError: results were changed, something has appeared where the run writes, or the disk
            is full or failed.
    """
    tally, sample = Tally(), ScoreSample()
    check_output(run)  # something may have appeared while the pieces were scored
    with open_locked(run, fingerprint, about, make_files) as output:
        if output.is_complete and output.resumed is not None:
            _check_rows(output.resumed, results)
            return Tally(**output.resumed.counts), sample.scores()
        if output.resumed is not None:
            output.start_again()
        for result in results:
            tally += result.attempt.tally
            rows = InputDigest()
            rows.add_part(result.attempt.rows, result.attempt.digest)
            scores = _sampled(result.scores(details=run.details), sample)
            output.write_part(scores, map(b"".join, result.rejects()), rows, asdict(tally))
    return tally, sample.scores()


def _check_rows(state: State, results: Sequence[Result]) -> None:
    """Raise OutputError if a complete state is of other rows than the results."""
    rows = InputDigest()
    for result in results:
        rows.add_part(result.attempt.rows, result.attempt.digest)
    if results and (rows.lines, rows.text) != (state.lines, state.digest):
        raise OutputError(
            "an input has changed since all of its rows were scored, and the scores were to get "
            "their final names",
            START_AGAIN,
        )


def _sampled(blocks: Blocks, sample: ScoreSample) -> Iterator[bytes]:
    """Join lines of scores, and keep some of the scores."""
    for block in blocks:
        sample.add_some(len(block), partial(_scores_at, block))
        yield b"".join(block)


def _scores_at(lines: list[bytes], places: slice) -> NDArray[np.float32]:
    return np.array([float(bytes(decode_score(x).score)) for x in lines[places]], np.float32)

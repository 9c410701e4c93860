"""Put the results of all pieces together, in the order of the rows, as one machine writes them."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harmless_runtime.cluster.manifest import Attempt, Manifest
from harmless_runtime.errors import OutputError
from harmless_runtime.output.fingerprint import skip_finished
from harmless_runtime.output.state import Claim
from harmless_runtime.output.writer import Output, open_output
from harmless_runtime.rows.digest import InputDigest
from harmless_runtime.rows.inputs import Inputs
from harmless_runtime.rows.records import Pair, Reject
from harmless_runtime.rows.sources import Source
from harmless_runtime.run import Run
from harmless_runtime.scores.log import Results
from harmless_runtime.tally import Tally

# Rows whose results are written at a time.
_BLOCK_ROWS = 4096


def merge(
    run: Run,
    fingerprint: Mapping[str, Any],
    about: Mapping[str, Any],
    pieces: list[tuple[Source, ...]],
    manifest: Manifest,
) -> Tally:
    """Write the output of a run of which all pieces are scored; return what was done in all.

    The rows are read again, for the record and for rows that are joined with their scores. It can
    be interrupted and continued like a run on one machine.

    Args:
        run: what was asked for.
        fingerprint: what decided the results.
        about: facts for the record.
        pieces: the inputs of each piece.
        manifest: names the results of each piece.

    Raises:
        OutputError: results or rows have changed, or as `open_output`.
    """
    tally = Tally()
    with open_output(run, fingerprint, about) as output:
        if output.is_complete and output.resumed is not None:
            return Tally(**output.resumed.counts)
        left = 0
        if output.resumed is not None:
            skip_finished(output.done, run.inputs.rows(), output.resumed)
            left = output.resumed.lines  # rows whose results are in the output already
        for number, sources in enumerate(pieces):
            attempt = manifest.done[number]
            manifest.check(attempt)
            own = Inputs(sources, run.inputs.reading, run.inputs.shape())
            _check_rows(own, attempt)  # before anything of the piece is in the output
            _append(output, own, manifest.files_of(attempt), tally, left)
            left = max(0, left - attempt.lines)
            tally += Tally(**attempt.counts)
        output.set_counts(asdict(tally))
    return tally


def _check_rows(inputs: Inputs, attempt: Attempt) -> None:
    """Raise OutputError unless the rows of a piece are those that were scored."""
    digest = InputDigest()
    digest.add(inputs.rows())
    if (digest.lines, digest.sha256) != (attempt.lines, attempt.digest):
        names = ", ".join(source.name for source in inputs.sources[:3])
        raise OutputError(
            f"{names} changed after it was scored: an id or a text differs",
            "`overwrite` scores again",
        )


def _append(
    output: Output,
    inputs: Inputs,
    files: Sequence[tuple[Path, Claim]],
    before: Tally,
    skipped: int,
) -> None:
    """Append the results of one piece, except those of its first rows."""
    (scores, _), (rejects, _) = files
    done, seen = before, 0
    with ExitStack() as stack:
        score_lines, reject_lines, again = (
            stack.enter_context(path.open("rb")) for path in (scores, rejects, rejects)
        )
        results = Results(score_lines, reject_lines)

        def lines() -> Iterator[tuple[Pair | Reject, bytes, bytes]]:
            for item in inputs.rows():
                score = results.line_of(item)
                yield (item, b"", next(again)) if score is None else (item, score, b"")

        items = lines()
        while block := list(itertools.islice(items, _BLOCK_ROWS)):
            rejected = sum(bool(reject) for _, _, reject in block)
            done += Tally(rows=len(block) - rejected, rejected=rejected)
            block, seen = block[max(0, skipped - seen) :], seen + len(block)
            if block:
                output.write(
                    b"".join(score for _, score, _ in block),
                    b"".join(reject for _, _, reject in block),
                    [item for item, _, _ in block],
                    asdict(done),
                )
        results.check_no_more()

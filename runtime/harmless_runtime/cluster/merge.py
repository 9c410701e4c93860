"""Put the results of all pieces together, in the order of the rows, as one machine writes them."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmless_runtime.cluster.manifest import Attempt, Manifest
from harmless_runtime.errors import OutputError
from harmless_runtime.output.opening import open_output
from harmless_runtime.output.state import START_AGAIN
from harmless_runtime.rows.digest import InputDigest
from harmless_runtime.rows.output_lines import reject_with_line_added, with_line_added
from harmless_runtime.rows.pieces import Piece
from harmless_runtime.run import Run
from harmless_runtime.scores.log import decode_score
from harmless_runtime.tally import ScoreSample, Tally

_BLOCK_BYTES = 2**20


def merge(
    run: Run,
    fingerprint: Mapping[str, Any],
    about: Mapping[str, Any],
    pieces: Sequence[Piece],
    manifest: Manifest,
) -> tuple[Tally, NDArray[np.float32]]:
    """Write the output of a run of which all pieces are scored.

    The rows are not read for that, unless they are joined with their scores. What an interrupted
    merge has written is written again.

    Args:
        run: what was asked for.
        fingerprint: what decided the results.
        about: facts for the record.
        pieces: the inputs of each piece.
        manifest: names the results of each piece.

    Returns:
        What was done in all, and scores as `ScoreSample` keeps them.

    Raises:
        OutputError: results were changed, or as `open_output`.
    """
    tally, sample = Tally(), ScoreSample()
    with open_output(run, fingerprint, about) as output:
        if output.is_complete and output.resumed is not None:
            return Tally(**output.resumed.counts), sample.scores()
        if output.resumed is not None:
            output.start_again()
        lines = 0  # of the file before the span that the piece is
        for number, piece in enumerate(pieces):
            attempt = manifest.done[number]
            tally += Tally(**attempt.counts)
            lines = lines if piece[0].is_continued else 0
            rows = InputDigest()
            rows.add_part(attempt.rows, attempt.digest)
            scores, rejects = (_lines(manifest, attempt, name) for name in attempt.files)
            output.write_part(
                _sampled(_numbered(scores, with_line_added, lines if run.details else 0), sample),
                _joined(_numbered(rejects, reject_with_line_added, lines)),
                rows,
                asdict(tally),
            )
            lines += attempt.lines
    return tally, sample.scores()


def _lines(manifest: Manifest, attempt: Attempt, name: str) -> Iterator[list[bytes]]:
    """Yield the lines of one of an attempt's files, a megabyte at a time.

    Raises:
        OutputError: they are not what was written.
        OSError: the file cannot be read.
    """
    claim = attempt.files[name]
    if not claim.size:
        return
    digest = hashlib.sha256()
    with manifest.storage.open(attempt.name, name) as file:
        while block := file.readlines(_BLOCK_BYTES):
            for line in block:
                digest.update(line)
            yield block
    if digest.hexdigest() != claim.sha256:
        where = f"{manifest.storage.where}/{attempt.name}/{name}"
        raise OutputError(f"{where} was changed since it was written", START_AGAIN)


def _numbered(
    blocks: Iterator[list[bytes]], with_number: Callable[[bytes, int], bytes], before: int
) -> Iterator[list[bytes]]:
    """Raise the numbers of lines by the number of those before them."""
    for block in blocks:
        yield [with_number(line, before) for line in block] if before else block


def _joined(blocks: Iterator[list[bytes]]) -> Iterator[bytes]:
    return map(b"".join, blocks)


def _sampled(blocks: Iterator[list[bytes]], sample: ScoreSample) -> Iterator[bytes]:
    """Join lines of scores, and keep some of the scores."""
    for block in blocks:
        sample.add_some(len(block), partial(_scores_at, block))
        yield b"".join(block)


def _scores_at(lines: list[bytes], places: slice) -> NDArray[np.float32]:
    return np.array([float(bytes(decode_score(x).score)) for x in lines[places]], np.float32)

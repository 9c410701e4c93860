"""Measure how fast the results of pieces are put together, with results that are made up."""

import hashlib
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from harmless_runtime.cluster.manifest import Attempt, Manifest, make_plan, versions_of
from harmless_runtime.cluster.merge import merge
from harmless_runtime.cluster.results import results_of
from harmless_runtime.cluster.storage import Storage, attempt_name
from harmless_runtime.output.finish import make_here
from harmless_runtime.output.state import EMPTY, Claim
from harmless_runtime.rows.inputs import open_inputs
from harmless_runtime.rows.pieces import Piece
from harmless_runtime.run import Run
from harmless_runtime.tally import Tally

_LINE = b'{"id": %d, "score": -1.2345678}\n'


@dataclass(frozen=True)
class Merged:
    """How long it took to put lines of scores together."""

    pieces: int
    rows: int
    megabytes: float
    seconds: float


def merge_once(pieces: int, rows: int) -> Merged:
    """Put pieces together that have so many rows each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, made, output = folder / "rows.jsonl", folder / "made", folder / "out.jsonl"
        source.write_text('{"instruction": "a", "output": "b"}\n')
        inputs = open_inputs([str(source)])
        inputs.shape()
        planned: list[Piece] = [inputs.sources] * pieces
        storage = Storage(str(folder / "pieces"))
        manifest = Manifest(folder / "pieces", storage, make_plan({}, planned), planned)
        for number in range(pieces):
            first = number * rows
            made.write_bytes(b"".join(_LINE % i for i in range(first, first + rows)))
            attempt = attempt_name(number)
            storage.put(made, attempt, "scores.jsonl")
            claim = Claim(made.stat().st_size, hashlib.sha256(made.read_bytes()).hexdigest())
            zero, tally = "0" * 64, Tally(rows=rows)
            versions = versions_of(inputs.sources)
            manifest.add(
                Attempt(number, attempt, versions, rows, zero, 0, claim, EMPTY, tally, "here", 1.0)
            )
        start = time.perf_counter()
        merge(Run(inputs, output), {}, {}, results_of(planned, manifest), make_here)
        seconds = time.perf_counter() - start
        megabytes = output.stat().st_size / 1e6
    return Merged(pieces, pieces * rows, round(megabytes, 1), round(seconds, 3))

"""Inputs are divided into pieces, and scored apart they give the bytes of one run."""

from pathlib import Path

import numpy as np
import pytest

from forms import jsonl
from harmless_runtime.model.artifact import Artifact
from harmless_runtime.pipeline import score_files
from harmless_runtime.rows.pieces import PieceStarts, pieces_of
from harmless_runtime.rows.records import Reject
from harmless_runtime.rows.sources import Source
from runs import cpu_engine, make_run


def source(name: str, size: int | None) -> Source:
    return Source(name, "file", size)


@pytest.mark.parametrize(
    ("sizes", "pieces"),
    [
        ([], []),
        ([5], [1]),
        ([5, 5, 5], [2, 1]),
        ([10, 1, 9, 3], [1, 2, 1]),
        ([None, 3, None, 100], [1, 2, 1]),
    ],
)
def test_a_piece_ends_with_the_input_that_makes_it_large(
    sizes: list[int | None], pieces: list[int]
) -> None:
    sources = [source(f"f{i}", size) for i, size in enumerate(sizes)]
    found = pieces_of(sources, 10)
    assert [len(piece) for piece in found] == pieces
    assert [s for piece in found for s in piece] == sources


def test_rows_that_begin_a_piece() -> None:
    # f0 is empty, and f1 is named twice.
    sources = [source("f0", 10), source("f1", 10), source("f1", 10), source("f2", 10)]
    starts = PieceStarts(sources, 10)
    rows = [("f1", 1), ("f1", 2), ("f1", 1), ("f1", 3), ("f2", 1), ("f2", 1)]
    found = [starts(Reject(name, number, "", b"")) for name, number in rows]
    assert found == [True, False, True, False, True, False]


def test_pieces_scored_apart_give_the_bytes_of_one_run(tmp_path: Path, artifact: Artifact) -> None:
    rng = np.random.default_rng(3)
    paths = []
    for part in range(4):
        rows = [
            {"id": i, "instruction": "Hi", "output": "word " * int(rng.integers(1, 60))}
            for i in range(40)
        ]
        paths.append(tmp_path / f"part{part}.jsonl")
        paths[-1].write_bytes(jsonl(rows))
    engine = cpu_engine(artifact.folder)
    whole = tmp_path / "whole.jsonl"
    score_files(make_run(paths, whole, piece_bytes=paths[0].stat().st_size), engine)
    apart = []
    for i, path in enumerate(paths):
        score_files(make_run(path, tmp_path / f"{i}.jsonl"), engine)
        apart.append((tmp_path / f"{i}.jsonl").read_bytes())
    assert whole.read_bytes() == b"".join(apart)

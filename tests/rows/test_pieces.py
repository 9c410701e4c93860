"""Inputs are divided into pieces, and scored apart they give the bytes of one run."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from forms import jsonl, make_rows
from harmless_runtime.model.artifact import Artifact
from harmless_runtime.pipeline import score_files
from harmless_runtime.rows.digest import InputDigest
from harmless_runtime.rows.inputs import Inputs, open_inputs
from harmless_runtime.rows.pieces import PiecedRows, pieces_of
from harmless_runtime.rows.records import Pair, Reject
from harmless_runtime.rows.shapes import KNOWN, Reading
from harmless_runtime.rows.sources import Source
from runs import cpu_engine, make_run


def source(name: str, size: int | None) -> Source:
    return Source(name, "file" if size is not None else "stream", size)


@pytest.mark.parametrize(
    ("sizes", "pieces"),
    [
        ([], []),
        ([5], [1]),
        ([5, 5, 5], [2, 1]),
        ([10, 1, 9, 3], [1, 2, 1]),
        ([None, 3, None, 7], [1, 2, 1]),
    ],
)
def test_a_piece_ends_with_the_input_that_makes_it_large(
    sizes: list[int | None], pieces: list[int]
) -> None:
    sources = [source(f"f{i}", size) for i, size in enumerate(sizes)]
    found = pieces_of(Inputs(sources, Reading(), KNOWN["alpaca"]), 10)
    assert [len(piece) for piece in found] == pieces
    assert [s for piece in found for s in piece] == sources


def lines_of_mixed_length(seed: int) -> bytes:
    """Return lines, some of them blank, some no JSON, and one longer than several pieces."""
    rng = random.Random(seed)
    rows = jsonl(make_rows(60)).splitlines()
    lines = [rng.choice([row, row, row, b"", b"[oops", b"\x1f\x8b", b"PAR1"]) for row in rows]
    lines[rng.randrange(60)] = b'{"instruction": "x", "output": "%b"}' % (b"y" * 5000)
    ends = b"\n" if seed % 2 else b""
    return b"\xef\xbb\xbf" * (seed % 3 == 0) + jsonl(make_rows(1)) + b"\n".join(lines) + ends


@pytest.mark.parametrize("seed", range(8))
def test_spans_of_a_file_hold_its_rows(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(lines_of_mixed_length(seed))
    inputs = open_inputs([str(path)])
    whole = list(inputs.rows())
    pieces = pieces_of(inputs, 1 + path.stat().st_size // 9)
    assert 3 < len(pieces) <= 9
    spans = [span for piece in pieces for span in piece]
    assert list(inputs.rows(spans)) == whole
    # Read apart, each span counts its lines from 1.
    apart: list[Pair | Reject] = []
    digest, before = InputDigest(), 0
    for span in spans:
        own = Inputs([span], inputs.reading, inputs.shape())
        rows = list(own.rows())
        part = InputDigest()
        part.add(rows)
        digest.add_part(part.lines, part.text)
        for row in rows:
            number = row.number + before
            apart.append(
                Pair(row.source, number, row.id, row.question, row.answer)
                if isinstance(row, Pair)
                else Reject(row.source, number, row.reason, row.raw, row.length)
            )
        before += own.lines_read
        assert own.position == span.bytes_read
    assert apart == whole
    expected = InputDigest()
    expected.add(whole)
    assert digest == expected


@pytest.mark.parametrize("groups", [1, 3, 40])
def test_spans_of_parquet_hold_its_rows(groups: int, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.Table.from_pylist(make_rows(120)), path, row_group_size=120 // groups)
    inputs = open_inputs([str(path)])
    pieces = pieces_of(inputs, path.stat().st_size // 4)
    assert (len(pieces) > 1) == (groups > 1)
    whole = list(inputs.rows())
    assert list(inputs.rows(span for piece in pieces for span in piece)) == whole
    apart = [Inputs(piece, inputs.reading, inputs.shape()).rows() for piece in pieces]
    assert [row for rows in apart for row in rows] == whole, "rows keep their numbers"


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.json", "rows.csv", "rows.arrow"])
def test_other_forms_stay_whole(name: str, tmp_path: Path) -> None:
    from forms import FORMS

    inputs = open_inputs([str(FORMS[name](make_rows(50), tmp_path))])
    assert pieces_of(inputs, 100) == [inputs.sources]


def test_the_places_of_rows_in_their_pieces(tmp_path: Path) -> None:
    # The second file is empty, and the third is named twice.
    for name, rows in (("a", 2), ("b", 0), ("c", 3)):
        (tmp_path / name).write_bytes(jsonl(make_rows(rows)))
    inputs = open_inputs([str(tmp_path / name) for name in "abcc"])
    pieced = PiecedRows(inputs, 2**20)
    assert [pieced.place() for _ in pieced.rows()] == list(range(8))
    for skipped in range(8):
        pieced = PiecedRows(inputs, 1 + (tmp_path / "a").stat().st_size)
        read = list(pieced.rows())
        pieced.skip(skipped)
        found = [pieced.place() for _ in read[skipped:]]
        # `a` and `b` are a piece, and each `c` is cut after its second row.
        assert found == [0, 1, 0, 1, 0, 0, 1, 0][skipped:]


def test_digests_of_parts_are_that_of_the_whole() -> None:
    rows = [Pair("f", i, b"%d" % (i % 3), f"q{i}", "a") for i in range(20)]
    whole = InputDigest()
    whole.add(rows)
    for cut in range(21):
        first, second, both = InputDigest(), InputDigest(), InputDigest()
        first.add(rows[:cut])
        second.add(rows[cut:])
        for part in (first, second):
            both.add_part(part.lines, part.text)
        assert both == whole
    for changed in ([*rows[1:], rows[0]], rows[:-1], [replace_id(rows[0]), *rows[1:]]):
        other = InputDigest()
        other.add(changed)
        assert other.value != whole.value


def replace_id(pair: Pair) -> Pair:
    return Pair(pair.source, pair.number, b"9", pair.question, pair.answer)


@pytest.mark.parametrize("files", [1, 4])
def test_pieces_scored_apart_give_the_bytes_of_one_run(
    files: int, tmp_path: Path, artifact: Artifact
) -> None:
    rng = np.random.default_rng(3)
    paths = []
    for part in range(files):
        rows = [
            {"id": i, "instruction": "Hi", "output": "word " * int(rng.integers(1, 60))}
            for i in range(160 // files)
        ]
        paths.append(tmp_path / f"part{part}.jsonl")
        paths[-1].write_bytes(jsonl(rows))
    engine = cpu_engine(artifact.folder)
    size = paths[0].stat().st_size * files // 4
    run = make_run(paths, tmp_path / "whole.jsonl", piece_bytes=size)
    score_files(run, engine)
    apart = []
    run.inputs.shape()
    for i, piece in enumerate(pieces_of(run.inputs, size)):
        inputs = Inputs(piece, run.inputs.reading, run.inputs.shape())
        score_files(replace(make_run(paths, tmp_path / f"{i}.jsonl"), inputs=inputs), engine)
        apart.append((tmp_path / f"{i}.jsonl").read_bytes())
    assert len(apart) >= 4
    assert run.output.read_bytes() == b"".join(apart)

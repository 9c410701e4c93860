"""Arrow files are read through their footer, and streams as they come."""

import gzip
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import datasets
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import ipc

from forms import make_rows, read
from harmless_runtime.errors import InputError
from harmless_runtime.pipeline import score_files
from harmless_runtime.rows.inputs import open_inputs
from harmless_runtime.rows.prompt import question_and_answer
from harmless_runtime.rows.records import Pair, Reject
from processes import COMMAND
from runs import cpu_engine, make_run

NAMES = ("id", "instruction", "input", "output")
ROWS = [{name: row[name] for name in NAMES} for row in make_rows(250)]
EXPECTED = [
    (f'"{r["id"]}"'.encode(), *question_and_answer(r["instruction"], r["input"], r["output"]))
    for r in ROWS
]


def contents(items: list[Pair | Reject]) -> list[tuple[bytes, str, str]]:
    assert [item for item in items if isinstance(item, Reject)] == []
    return [(i.id, i.question, i.answer) for i in items if isinstance(i, Pair)]


def write_polars(path: Path, **options: Any) -> Path:
    """Write rows as polars does, in batches of its own."""
    frame = pl.concat([pl.DataFrame(ROWS[:100]), pl.DataFrame(ROWS[100:])], rechunk=False)
    frame.write_ipc(path, **options)
    with ipc.open_file(path) as reader:
        assert reader.num_record_batches >= 1
    return path


@pytest.mark.parametrize("compression", ["uncompressed", "lz4", "zstd"])
def test_files_that_polars_writes(
    compression: Literal["uncompressed", "lz4", "zstd"], tmp_path: Path
) -> None:
    path = write_polars(tmp_path / "rows.arrow", compression=compression)
    with pytest.raises(OSError, match="Invalid flatbuffers message"):
        ipc.open_stream(path.read_bytes()[8:])  # it has gaps that streams do not have
    assert contents(read(path)) == EXPECTED
    pl.DataFrame(ROWS).write_ipc_stream(path, compression=compression)
    assert contents(read(path)) == EXPECTED


def lists(kind: Any) -> pa.Array:
    turns = [
        [{"role": "user", "content": row["instruction"]}, {"role": "gpt", "content": row["output"]}]
        for row in ROWS
    ]
    return pa.array(turns, kind)


TURN = pa.struct([("role", pa.string()), ("content", pa.dictionary(pa.int32(), pa.string()))])
LISTS = [pa.list_(TURN), pa.large_list(TURN), pa.list_(TURN, 2), pa.list_view(TURN)]
TEXTS = [
    pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.large_string()),
    pa.run_end_encoded(pa.int32(), pa.string()),
]  # fmt: skip


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
@pytest.mark.parametrize("kind", ["file", "stream"])
def test_types_and_compressions(kind: str, compression: str | None, tmp_path: Path) -> None:
    columns: dict[str, list[str]] = {name: [row[name] for row in ROWS] for name in NAMES}
    few = columns | {"instruction": ["Say a word."] * len(ROWS), "output": ["a", "b"] * 125}
    tables = [pa.table({n: plain(values, kind) for n, values in few.items()}) for kind in TEXTS[3:]]
    expected = contents([*read_table(pa.table(few), kind, None, tmp_path)])
    for table in tables:
        assert contents(read_table(table, kind, compression, tmp_path)) == expected
    for text in TEXTS[:3]:
        table = pa.table({name: plain(values, text) for name, values in columns.items()})
        assert contents(read_table(table, kind, compression, tmp_path)) == EXPECTED
    for turns in LISTS:
        found = read_table(pa.table({"messages": lists(turns)}), kind, compression, tmp_path)
        assert [item.answer for item in found if isinstance(item, Pair)] == columns["output"]


def plain(values: list[str], kind: Any) -> pa.Array:
    if pa.types.is_dictionary(kind) and len(set(values)) > 100:
        return pa.array(values)
    if pa.types.is_run_end_encoded(kind):
        return pa.compute.run_end_encode(pa.array(values))
    return pa.array(values, kind)


def read_table(
    table: pa.Table, kind: str, compression: str | None, folder: Path
) -> list[Pair | Reject]:
    open_writer = ipc.new_file if kind == "file" else ipc.new_stream
    options = ipc.IpcWriteOptions(compression=compression)
    with open_writer(folder / "rows.arrow", table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=100)
    return read(folder / "rows.arrow")


def test_a_file_of_polars_through_a_pipe_has_to_be_saved(tmp_path: Path) -> None:
    whole = write_polars(tmp_path / "rows.arrow").read_bytes()
    command = [str(COMMAND), "score", "-", "-o", str(tmp_path / "o.jsonl"), "--model", "demo"]
    done = subprocess.run(command, input=whole, capture_output=True, check=False)
    assert done.returncode == 1
    assert b"cannot read - as a stream: Invalid flatbuffers message" in done.stderr
    assert b"hint: it is an Arrow file" in done.stderr
    assert b"save it in a file" in done.stderr
    (tmp_path / "rows.arrow.gz").write_bytes(gzip.compress(whole))
    with pytest.raises(InputError, match="as a stream") as caught:
        read(tmp_path / "rows.arrow.gz")
    assert "not compressed as a whole" in str(caught.value.hint)


def test_a_damaged_file_gives_the_rows_before_the_damage(tmp_path: Path) -> None:
    path = tmp_path / "rows.arrow"
    table = pa.Table.from_pylist(ROWS)
    with ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=50)
    whole = path.read_bytes()
    third = whole.index(b"\xff\xff\xff\xff", len(whole) // 2)  # where a batch begins
    for content, most in (
        (whole[: len(whole) // 2], 200),
        (whole[:-1], 250),  # the footer is not whole
        (whole[:-500], 250),
        (whole[:third] + b"\x77" * 40 + whole[third + 40 :], 200),  # the footer is whole
    ):
        path.write_bytes(content)
        found: list[Pair | Reject] = []
        with pytest.raises(InputError, match=r"rows\.arrow"):
            found.extend(open_inputs([str(path)]).rows())
        assert 50 <= len(found) <= most
        assert contents(found) == EXPECTED[: len(found)]


def test_the_position_follows_the_rows(tmp_path: Path) -> None:
    path = write_polars(tmp_path / "rows.arrow")
    inputs = open_inputs([str(path), str(path)])
    inputs.shape()
    positions = [inputs.position for _ in inputs.rows()]
    assert positions == sorted(positions)
    assert len(set(positions)) > 6, "more than one for each batch"
    size = path.stat().st_size
    assert positions[len(ROWS) - 1] == size
    assert positions[-1] == inputs.position == 2 * size


# Reads all rows, and prints by how many kB the most memory has grown that the process ever had.
GROWTH = """
import sys
from harmless_runtime.rows.inputs import open_inputs
from harmless_runtime.rows.shapes import Reading

def most():
    (line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
    return int(line.split()[1])

def read(path):
    return sum(1 for _ in open_inputs([path], Reading("alpaca")).rows())

read(sys.argv[1])
before = most()
read(sys.argv[2])
print(most() - before)
"""


@pytest.mark.parametrize("is_wide", [True, False])
def test_memory_holds_a_batch_of_the_needed_columns(is_wide: bool, tmp_path: Path) -> None:
    names = ["instruction", "output", "x" if is_wide else "input"]
    large, count = "x" * 20_000, 1000
    batch = pa.record_batch([["a"] * count, ["b"] * count, [large] * count], names)
    for name, batches in (("small", 1), ("large", 10)):
        with ipc.new_file(tmp_path / f"{name}.arrow", batch.schema) as writer:
            for _ in range(batches):
                writer.write_batch(batch)
    paths = tmp_path / "small.arrow", tmp_path / "large.arrow"
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, *paths], capture_output=True, check=True, text=True
    )
    assert int(done.stdout) < 2 * len(large) * count / 1000, "of ten batches"


def test_a_run_that_goes_on_reads_the_same_rows(tmp_path: Path) -> None:
    path = write_polars(tmp_path / "rows.arrow")
    engine = cpu_engine(window_rows=24, piece_bytes=2048)
    score_files(make_run(path, tmp_path / "whole.jsonl"), engine)

    class StopError(Exception):
        pass

    def stop(tally: Any) -> None:
        if tally.rows >= 100:
            raise StopError

    run = make_run(path, tmp_path / "out.jsonl")
    with pytest.raises(StopError):
        score_files(run, engine, stop)
    again = make_run(path, tmp_path / "out.jsonl", existing="resume")
    assert score_files(again, engine).tally.rows == len(ROWS)
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_saved_dataset_of_one_batch_and_of_many(tmp_path: Path) -> None:
    for size in (7, 1000):
        ds = datasets.Dataset.from_list(ROWS)
        ds = ds.map(lambda rows: rows, batched=True, writer_batch_size=size)
        ds.save_to_disk(tmp_path / f"saved-{size}")
        assert contents(read(tmp_path / f"saved-{size}")) == EXPECTED

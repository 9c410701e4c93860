"""Inputs that are damaged, or hold rows that are wrong: rejects, or one sentence, and no loss."""

import bz2
import csv
import gzip
import lzma
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from forms import FORMS, jsonl, make_rows, read
from harmless_runtime.errors import InputError, ShapeError
from harmless_runtime.rows.prompt import question_and_answer
from harmless_runtime.rows.records import Pair, Reject
from processes import in_a_shell

ROWS = make_rows(250)


def cut(compress: Callable[[bytes], bytes]) -> bytes:
    data = compress(jsonl(ROWS))
    return data[: len(data) - 9]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl.gz", cut(gzip.compress)),
        ("rows.jsonl.xz", cut(lzma.compress)),
        ("rows.jsonl.zst", cut(zstandard.compress)),
        ("damaged.gz", gzip.compress(jsonl(ROWS))[:200] + b"\0" * 50 + gzip.compress(b"")),
    ],
)
def test_a_compressed_file_that_is_damaged_is_no_shorter_one(
    name: str, content: bytes, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="compressed data is damaged or ends early"):
        read(tmp_path / name)


def test_rows_of_csv_that_are_wrong(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(
        b"\xef\xbb\xbfinstruction,output,id\r\n"
        b"a,b,1\r\n"
        b"\r\n"
        b"too,few\r\n"
        b'"two\nlines",b,2\r\n'
        b'"bad"quote,b,3\r\n'
        b"not,\xff,4\r\n"
        b'a,"never closed,5\r\nx,y,z\r\n'
    )
    items = read(tmp_path / "rows.csv")
    told = [
        (i.number, i.reason if isinstance(i, Reject) else i.question.strip()[:12]) for i in items
    ]
    assert [number for number, _ in told] == [2, 4, 5, 7, 8, 9]
    assert "2 cells, and the header has 3" in told[1][1]
    assert told[2][1] == "Human: two\nl"
    assert "not valid CSV" in told[3][1]
    assert "not valid UTF-8" in told[4][1]
    assert "it ends in line 10" in told[5][1]
    rejects = [item for item in items if isinstance(item, Reject)]
    assert rejects[1].raw == b'"bad"quote,b,3'
    (tmp_path / "twice.csv").write_bytes(b"output,output\na,b\n")
    with pytest.raises(InputError, match="names a column twice: output"):
        read(tmp_path / "twice.csv", format="alpaca")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    whole = FORMS["rows.parquet"](ROWS, tmp_path).read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[:-20])
    (tmp_path / "cut.arrow").write_bytes(FORMS["rows.arrow"](ROWS, tmp_path).read_bytes()[:5000])
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04")
    (tmp_path / "x.parquet.gz").write_bytes(gzip.compress(whole))
    for name, message in (
        ("cut.parquet", "cut.parquet"),
        ("cut.arrow", "cut.arrow"),
        ("x.zip", "is a zip archive"),
        ("x.parquet.gz", "decompress it first|is Parquet in a compressed file"),
    ):
        with pytest.raises(InputError, match=message):
            read(tmp_path / name)


@given(st.binary(max_size=60), st.sampled_from(["x", "x.csv", "x.jsonl", "x.json", "x.parquet"]))
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_rows_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str
) -> None:
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    try:
        items = read(path, format="alpaca")
    except (InputError, ShapeError) as error:
        assert str(path) in str(error)  # noqa: PT017
    else:
        assert all(isinstance(item, Pair | Reject) for item in items)


LINES = [b'{"id": %d, "instruction": "a", "output": "b"}\n' % i for i in range(30)]
PARTS = [b"".join(LINES[i : i + 10]) for i in (0, 10, 20)]


@pytest.mark.parametrize(
    ("suffix", "compress", "padding"),
    [("bz2", bz2.compress, b""), ("xz", lzma.compress, b""), ("xz", lzma.compress, b"\0" * 4)],
)
def test_streams_that_follow_each_other_are_read_whole(
    suffix: str, compress: Callable[[bytes], bytes], padding: bytes, tmp_path: Path
) -> None:
    whole = [compress(part) for part in PARTS]
    path = tmp_path / f"rows.jsonl.{suffix}"
    path.write_bytes(padding.join(whole) + padding)
    assert [item.id for item in read(path) if isinstance(item, Pair)] == [
        b"%d" % i for i in range(30)
    ]
    for place in (0, 10, len(whole[1]) // 2, len(whole[1]) - 5):
        second = bytearray(whole[1])
        second[place] ^= 0xFF
        path.write_bytes(whole[0] + bytes(second) + whole[2])
        with pytest.raises(InputError, match=f"cannot read {path}"):
            read(path)
    for end in (b"garbage", whole[1][:4], whole[1][:-1]):
        path.write_bytes(whole[0] + end)
        with pytest.raises(InputError, match=f"cannot read {path}"):
            read(path)


def test_a_cell_that_is_too_long_is_one_reject_and_no_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    inside = "x\nfake question,fake answer,99\n" * 150_000
    rows = [
        ["short", "good", 1],
        [inside, "sure", 2],
        ["A" * 5_000_000, "sure", 3],
        ["last", "fine", 4],
    ]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["instruction", "output", "id"], *rows])
    items = read(path)
    assert [type(item) for item in items] == [Pair, Reject, Reject, Pair]
    assert [item.id for item in items if isinstance(item, Pair)] == [b'"1"', b'"4"']
    last = path.read_bytes().count(b"\n")
    assert items[-1].number == last
    reasons = [item.reason for item in items if isinstance(item, Reject)]
    assert "a cell is longer than max_line_bytes allows" in reasons[0]
    assert reasons[1] == "a line is longer than max_line_bytes allows"


def test_an_arrow_file_that_was_cut_between_batches(tmp_path: Path) -> None:
    path = tmp_path / "rows.arrow"
    table = pa.table({"instruction": ["a"] * 30, "output": ["b"] * 30})
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=10)
    whole = path.read_bytes()
    assert len(read(path)) == 30
    with pa.ipc.open_file(path) as reader:
        assert reader.num_record_batches == 3
    # The last batch, the mark of the end and the footer are cut off.
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table[:20], max_chunksize=10)
    two = sink.getvalue().to_pybytes()
    cut = next(n for n in range(len(two), 0, -1) if whole.startswith(two[:n]))
    for tail in (b"", b"\0" * 64):
        path.write_bytes(whole[:cut] + tail)
        with pytest.raises(InputError, match="is damaged"):
            read(path)


def test_values_that_python_lacks_beside_the_texts(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    good = pa.array(["c1", "c2"])
    bad = pa.Array.from_buffers(
        pa.string(), 2, pa.array([b"ok", b"\xff\xfe"], pa.binary()).buffers()
    )
    meta = pa.StructArray.from_arrays([good, pa.array([7, 8]), bad], ["ctx", "id", "junk"])
    born = pa.array([0, 2932897], pa.int32()).cast(pa.date32())  # 10000-01-01
    times = pa.ListArray.from_arrays([0, 1, 2], pa.array([0, 2**50], pa.timestamp("ms")))
    table = pa.table(
        {"instruction": ["a", "a"], "output": ["b", "b"], "meta": meta, "born": born, "t": times}
    )
    parquet.write_table(table, path)
    items = read(path, columns={"input": "meta.ctx", "id": "meta.id"})
    assert [item.id for item in items if isinstance(item, Pair)] == [b"7", b"8"]
    assert all("c" in item.question for item in items if isinstance(item, Pair))


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONE])
def test_csv_with_backslashes_before_quotes(quoting: Any, tmp_path: Path) -> None:
    """As Spark and pandas write it, if they are told to."""
    rows = [["a", "b"], ["c", "It is 5'10\""], ["d", "e"]]
    frame = pd.DataFrame(rows, columns=["instruction", "output"])
    path = tmp_path / "rows.csv"
    frame.to_csv(path, index=False, doublequote=False, escapechar="\\", quoting=quoting)
    row, reject, *_ = read(path)
    assert isinstance(row, Pair)
    assert isinstance(reject, Reject)
    assert "not escaped with backslashes" in reject.reason


def test_a_blank_before_a_quote_of_csv(tmp_path: Path) -> None:
    quoted = [["instruction", "output"], [' "a"', "b"], ['He said, "a"', '  "c", d']]
    quoted += [['"C:\\"', ' "'], ["a, b\\", '"C:\\" c'], ['\\"\n"', '\\"'], ['\\""', ""]]
    with (tmp_path / "quoted.csv").open("w", newline="") as file:
        csv.writer(file).writerows(quoted)
    expected = [question_and_answer(q, "", a) for q, a in quoted[1:]]
    rows = read(tmp_path / "quoted.csv")
    assert [(i.question, i.answer) for i in rows if isinstance(i, Pair)] == expected
    (tmp_path / "padded.csv").write_text('instruction, output\na, "b"\n"a",  "b, c"\na, ""\na, b\n')
    *rejects, row = read(tmp_path / "padded.csv")
    for reject in rejects:
        assert isinstance(reject, Reject)
        assert "a blank stands before a quote that begins a cell" in reject.reason
    assert isinstance(row, Pair)
    assert row.answer == " b"


@pytest.mark.parametrize("header", ["id,instruction,output\n", ",instruction , output\n"])
def test_csv_files_that_were_joined(header: str, tmp_path: Path) -> None:
    rows = "1,a,b\nid,instruction,other\n"
    (tmp_path / "rows.csv").write_text((header + rows) * 2)
    kinds = [type(item) for item in read(tmp_path / "rows.csv")]
    assert kinds == [Pair, Pair, Reject, Pair, Pair]


def test_the_first_line_that_excel_takes(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("sep=;\ninstruction;output\na;b\n")
    with pytest.raises(InputError, match="a line for Excel") as raised:
        read(tmp_path / "rows.csv")
    (command,) = re.findall(r"tail .* NEW\.csv", raised.value.hint or "")
    in_a_shell(command.replace("FILE", "rows.csv"), tmp_path)
    assert len(read(tmp_path / "NEW.csv")) == 1


def test_csv_with_carriage_returns_alone(tmp_path: Path) -> None:
    text = b"instruction,output,id\ra,b,1\rc,d,2\r"
    (tmp_path / "old.csv").write_bytes(text)
    with pytest.raises(InputError, match="has a carriage return without a line feed") as raised:
        read(tmp_path / "old.csv")
    (command,) = re.findall(r"tr .* NEW\.csv", raised.value.hint or "")
    in_a_shell(command.replace("FILE", "old.csv"), tmp_path)
    assert len(read(tmp_path / "NEW.csv")) == 2
    (tmp_path / "long.csv").write_bytes(text * 100)
    with pytest.raises(InputError, match="longer than max_line_bytes allows") as raised:
        read(tmp_path / "long.csv", line_bytes=1000)
    assert "carriage returns alone" in (raised.value.hint or "")
    (tmp_path / "one.csv").write_bytes(b"instruction,output\na,b\rc\nd,e\n")
    reject, row = read(tmp_path / "one.csv")
    assert isinstance(reject, Reject)
    assert reject.reason == (
        "not valid CSV: it has a carriage return without a line feed, outside quotes"
    )
    assert isinstance(row, Pair)

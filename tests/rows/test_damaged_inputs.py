"""Inputs that are damaged, or hold rows that are wrong: rejects, or one sentence, and no loss."""

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from forms import FORMS, jsonl, make_rows, read
from harmless_runtime.errors import InputError
from harmless_runtime.rows.records import Pair, Reject

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
    except InputError as error:
        assert str(path) in str(error)  # noqa: PT017
    else:
        assert all(isinstance(item, Pair | Reject) for item in items)

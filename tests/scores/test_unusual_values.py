"""Values that a form cannot hold as they are cost no row its score."""

import csv
import json
import logging
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from harmless_runtime.model.engine import Engine
from harmless_runtime.pipeline import score_files
from harmless_runtime.scores.cut import Wanted
from harmless_runtime.scores.select import Selection, select_rows
from runs import cpu_engine, make_run


@pytest.fixture(scope="module")
def engine() -> Engine:
    return cpu_engine()


def rows_with(values: list[str]) -> bytes:
    """Return lines of JSON, each with the JSON text of a value as its field `x`."""
    texts = (f'{{"instruction": "a{n}", "output": "b", "x": {x}}}\n' for n, x in enumerate(values))
    return "".join(texts).encode()


def joined(content: bytes, name: str, out: str, folder: Path, engine: Engine) -> Path:
    """Join rows with their scores; return the output."""
    (folder / name).write_bytes(content)
    score_files(make_run(folder / name, folder / out, join="s"), engine)
    return folder / out


@pytest.mark.parametrize("value", ["1e999", "[-1e999]", '{"a": [1e999]}'])
def test_value_that_python_cannot_hold(value: str, tmp_path: Path, engine: Engine) -> None:
    content = rows_with(["1", value, "2"])
    table = parquet.read_table(joined(content, "r.jsonl", "o.parquet", tmp_path, engine))
    assert table["x"].to_pylist() == ["1", value, "2"]
    assert table["s"].null_count == 0
    out = joined(content, "r.jsonl", "o.csv", tmp_path, engine)
    with out.open(newline="") as file:
        assert [row["x"] for row in csv.DictReader(file)] == ["1", value, "2"]
    lines = joined(content, "r.jsonl", "o.jsonl", tmp_path, engine)
    kept = select_rows(
        Selection((str(lines),), tmp_path / "k.jsonl", Wanted(end="top", count=3), score_column="s")
    )
    assert (kept.kept, kept.scored) == (3, 3)


@pytest.mark.parametrize(
    "values",
    [
        ["{}"] * 3,
        ["[{}]"],
        ["[" * 90 + "1" + "]" * 90],
        [str(2**53 + 1)] + ["1"] * 1100 + ["0.5"],
        ["0.5"] + ["1"] * 1100 + [str(2**53 + 1)],
        ["1"] * 1100 + ['"text"'],
        [str(2**64)],
    ],
)
def test_values_that_no_column_of_parquet_holds_become_texts(
    values: list[str], tmp_path: Path, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        out = joined(rows_with(values), "r.jsonl", "o.parquet", tmp_path, engine)
    table = parquet.read_table(out)
    assert [json.loads(x) if x != "text" else x for x in table["x"].to_pylist()] == [
        json.loads(x) for x in values
    ]
    assert table["s"].null_count == 0
    assert "written as texts" in caplog.text


def test_integers_that_float64_holds_stay_numbers(tmp_path: Path, engine: Engine) -> None:
    values = [str(2**53)] + ["1"] * 1100 + ["0.5"]
    out = joined(rows_with(values), "r.jsonl", "o.parquet", tmp_path, engine)
    assert parquet.read_table(out)["x"].to_pylist() == [json.loads(x) for x in values]


@pytest.mark.parametrize("out", ["o.parquet", "o.jsonl"])
def test_cells_that_are_not_utf8(
    out: str, tmp_path: Path, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    content = "instruction,output,Größe\na,b,Füße\nc,d,ok\n".encode("latin-1")
    with caplog.at_level(logging.WARNING):
        path = joined(content, "r.csv", out, tmp_path, engine)
    if out.endswith(".parquet"):
        found: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    else:
        found = list(map(json.loads, path.read_text().splitlines()))
    assert [row[r"Gr\xf6\xdfe"] for row in found] == [r"F\xfc\xdfe", "ok"]
    assert all(isinstance(row["s"], float) for row in found)
    assert caplog.text.count("not UTF-8") == 1


def test_cells_that_are_not_utf8_stay_as_they_are_in_csv(tmp_path: Path, engine: Engine) -> None:
    content = 'instruction,output,"Grö\nße"\na,b,Füße\n'.encode("latin-1")
    lines = joined(content, "r.csv", "o.csv", tmp_path, engine).read_bytes().splitlines()
    assert b"\n".join(lines).startswith(
        'instruction,output,"Grö\nße",s\na,b,Füße,'.encode("latin-1")
    )


@pytest.mark.parametrize("text", ["a\rb", "\r", "a\r\nb", "a\n", "x"])
def test_line_ends_in_cells(text: str, tmp_path: Path, engine: Engine) -> None:
    content = rows_with([json.dumps(text), '"plain"'])
    out = joined(content, "r.jsonl", "o.csv", tmp_path, engine)
    with out.open(newline="") as file:
        found = list(csv.DictReader(file, strict=True))
    assert [row["x"] for row in found] == [text, "plain"]
    again = select_rows(
        Selection((str(out),), tmp_path / "k.csv", Wanted(end="top", count=2), score_column="s")
    )
    assert again.kept == 2
    assert (tmp_path / "k.csv").read_bytes() == out.read_bytes()


def test_values_of_tables_in_cells(tmp_path: Path, engine: Engine) -> None:
    table = pa.table(
        {
            "instruction": ["a"],
            "output": ["b"],
            "day": [date(2026, 1, 2)],
            "price": [Decimal("1.50")],
            "nan": [float("nan")],
            "inf": [float("-inf")],
            "flag": [True],
            "data": [b"\xff\x00"],
            "items": [["x", None]],
        }
    )
    parquet.write_table(table, tmp_path / "r.parquet")
    score_files(make_run(tmp_path / "r.parquet", tmp_path / "o.csv", join="s"), engine)
    found = pd.read_csv(tmp_path / "o.csv", dtype=str, keep_default_na=False).iloc[0].to_dict()
    del found["s"]
    assert found == {
        "instruction": "a",
        "output": "b",
        "day": "2026-01-02",
        "price": "1.50",
        "nan": "nan",
        "inf": "-inf",
        "flag": "true",
        "data": "/wA=",
        "items": '["x",null]',
    }


@pytest.mark.parametrize(
    "values", [["1.5", "true"], ["[1.5]", "[true]"], ['{"a":1.5}', '{"a":false}']]
)
def test_booleans_are_no_numbers(values: list[str], tmp_path: Path, engine: Engine) -> None:
    out = joined(rows_with(values), "r.jsonl", "o.parquet", tmp_path, engine)
    assert parquet.read_table(out)["x"].to_pylist() == values


@pytest.mark.parametrize(
    "value",
    ["1e-400", "12345678901234567890.5", "3.14159265358979323846", "-0", "1.0", '[1, "a"]', "true"],
)
def test_numbers_of_json_keep_their_digits_in_csv(
    value: str, tmp_path: Path, engine: Engine
) -> None:
    out = joined(rows_with([value, "null"]), "r.jsonl", "o.csv", tmp_path, engine)
    with out.open(newline="") as file:
        assert [row["x"] for row in csv.DictReader(file)] == [value, ""]

"""Joined rows keep their columns of JSON: as a type in Parquet, and as values elsewhere."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from harmless_runtime.choices import SCORE_COLUMN
from harmless_runtime.model.engine import Engine
from harmless_runtime.pipeline import score_files
from harmless_runtime.report.joined_rows import joined_rows
from harmless_runtime.rows.inputs import open_inputs
from harmless_runtime.scores.cut import Wanted
from harmless_runtime.scores.select import Selection, select_rows
from reading import read_rows
from runs import cpu_engine, make_run

# The text of the JSON is kept as it is written, and the third row has a number for an answer.
META = ['{"a": 1,  "b": [null]}', "null", "1e2"]
CONTENTS = ['"Yes."', '[{"type": "text", "text": "No."}]', "5"]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return cpu_engine()


def json_column(texts: list[str]) -> pa.Array:
    return pa.ExtensionArray.from_storage(pa.json_(), pa.array(texts))


@pytest.fixture
def table() -> pa.Table:
    contents = json_column(['"Hi"', CONTENTS[0], '"Hi"', CONTENTS[1], '"Hi"', CONTENTS[2]])
    roles = pa.array(["user", "assistant"] * 3)
    turns = pa.StructArray.from_arrays([roles, contents], ["role", "content"])
    messages = pa.ListArray.from_arrays([0, 2, 4, 6], turns)
    lists = pa.ListArray.from_arrays([0, 1, 1, 3], json_column(["1", '"x"', "{}"]))
    return pa.table(
        {"id": [1, 2, 3], "messages": messages, "meta": json_column(META), "lists": lists}
    )


@pytest.fixture(params=["rows.parquet", "rows.arrow"])
def rows(request: pytest.FixtureRequest, table: pa.Table, tmp_path: Path) -> Path:
    path = tmp_path / str(request.param)
    if path.suffix == ".parquet":
        parquet.write_table(table, path)
    else:
        with ipc.new_file(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    return path


def test_parquet_keeps_the_type_and_the_text(
    rows: Path, table: pa.Table, engine: Engine, tmp_path: Path
) -> None:
    out, kept = tmp_path / "joined.parquet", tmp_path / "kept.parquet"
    score_files(make_run(rows, out, join=SCORE_COLUMN), engine)
    found = parquet.read_table(out)
    assert found[SCORE_COLUMN].is_valid().to_pylist() == [True, True, False]
    assert found.drop_columns(SCORE_COLUMN).to_pylist() == table.to_pylist()
    types = str(found.schema)
    assert types.count("extension<arrow.json>") == str(table.schema).count("extension<arrow.json>")
    select_rows(Selection((str(out),), kept, Wanted(end="top", count=2)))
    assert parquet.read_table(kept).equals(found[:2])


def expected_values() -> list[dict[str, Any]]:
    return [
        {
            "id": number,
            "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": json.loads(content)},
            ],
            "meta": json.loads(meta),
            "lists": values,
        }
        for number, content, meta, values in zip(
            [1, 2, 3], CONTENTS, META, [[1], [], ["x", {}]], strict=True
        )
    ]


def test_json_lines_and_csv_get_the_values(rows: Path, engine: Engine, tmp_path: Path) -> None:
    score_files(make_run(rows, tmp_path / "o.jsonl", join=SCORE_COLUMN), engine)
    joined = read_rows(tmp_path / "o.jsonl")
    scores = [row.pop(SCORE_COLUMN) for row in joined]
    assert joined == expected_values()
    score_files(make_run(rows, tmp_path / "o.csv", join=SCORE_COLUMN), engine)
    # Whatever form they were joined in, they are read again as the same rows.
    score_files(make_run(tmp_path / "o.jsonl", tmp_path / "again.jsonl"), engine)
    score_files(make_run(tmp_path / "o.csv", tmp_path / "cells.jsonl"), engine)
    for name in ("again.jsonl", "cells.jsonl"):
        assert [row["score"] for row in read_rows(tmp_path / name)] == scores[:2]


@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv"])
def test_a_report_shows_the_texts(form: str, rows: Path, engine: Engine, tmp_path: Path) -> None:
    out = tmp_path / f"o.{form}"
    score_files(make_run(rows, out, join=SCORE_COLUMN), engine)
    shown = list(joined_rows(open_inputs([str(out)]), SCORE_COLUMN, "id"))
    assert [row.answer for row in shown] == ["Yes.", "No.", ""]
    assert [row.group for row in shown] == ["1", "2", "3"]


def test_what_is_not_json_stays_a_text(engine: Engine, tmp_path: Path) -> None:
    texts = ["{no", '"yes"']
    table = pa.table({"instruction": ["a"] * 2, "output": ["b"] * 2, "meta": json_column(texts)})
    parquet.write_table(table, tmp_path / "rows.parquet")
    for name in ("o.jsonl", "o.csv", "o.parquet"):
        score_files(make_run(tmp_path / "rows.parquet", tmp_path / name, join="s"), engine)
    assert [row["meta"] for row in read_rows(tmp_path / "o.jsonl")] == ["{no", "yes"]
    assert "b,{no," in (tmp_path / "o.csv").read_text()
    assert parquet.read_table(tmp_path / "o.parquet")["meta"].to_pylist() == texts


def test_bytes_of_texts_are_joined_as_texts(engine: Engine, tmp_path: Path) -> None:
    table = pa.table({"instruction": [b"a"], "output": ["日本".encode()], "image": [b"b"]})
    parquet.write_table(table, tmp_path / "rows.parquet")
    score_files(make_run(tmp_path / "rows.parquet", tmp_path / "o.jsonl", join="s"), engine)
    (row,) = read_rows(tmp_path / "o.jsonl")
    assert (row["instruction"], row["output"]) == ("a", "日本")
    assert row["image"] == "Yg==", "columns that hold no texts of the row stay as they were"
    score_files(make_run(tmp_path / "rows.parquet", tmp_path / "o.parquet", join="s"), engine)
    assert parquet.read_table(tmp_path / "o.parquet").drop_columns("s").equals(table)

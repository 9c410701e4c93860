"""Columns of JSON are read as JSON lines with the same values, whichever library wrote them."""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from forms import jsonl, read
from harmless_runtime.errors import ConfigError
from harmless_runtime.rows.prompt import question_and_answer
from harmless_runtime.rows.records import Pair, Reject

MIXED: list[dict[str, Any]] = [
    {"id": 0, "instruction": "How do I boil an egg?", "output": "Seven minutes."},
    {"id": 1, "instruction": "What is 2+2?", "output": 4},
    {"id": 2, "instruction": "Say nothing.", "output": None},
    {"id": 3, "instruction": "Quote.", "output": '"4"\n日本 🙂'},
]
# datasets makes a column of JSON of the contents, which are texts, lists and a number.
CHATS: list[dict[str, Any]] = [
    {"id": n, "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": c}]}
    for n, c in enumerate(["Yes.", [{"type": "text", "text": "No."}], 5])
]
TURNS_OF_JSON = datasets.Features(
    {"id": datasets.Value("int64"), "messages": datasets.List(datasets.Json())}
)


def told(items: Sequence[Pair | Reject]) -> list[tuple[Any, ...]]:
    return [(i.reason,) if isinstance(i, Reject) else (i.id, i.question, i.answer) for i in items]


def as_datasets_reads(rows: list[dict[str, Any]], folder: Path) -> datasets.Dataset:
    (folder / "read.json").write_bytes(jsonl(rows))
    read_again = datasets.Dataset.from_json(str(folder / "read.json"), cache_dir=str(folder / "c"))
    assert isinstance(read_again, datasets.Dataset)
    return read_again


def json_column(values: Sequence[Any]) -> pa.Array:
    texts = [None if value is None else json.dumps(value) for value in values]
    return pa.ExtensionArray.from_storage(pa.json_(), pa.array(texts, pa.string()))


def as_table(rows: list[dict[str, Any]], column: str) -> pa.Table:
    others = {name: [row[name] for row in rows] for name in rows[0] if name != column}
    return pa.table({**others, column: json_column([row[column] for row in rows])})


@pytest.mark.parametrize(
    ("rows", "features"), [(MIXED, None), (CHATS, None), (CHATS, TURNS_OF_JSON)]
)
def test_what_datasets_makes_of_values_of_several_types(
    rows: list[dict[str, Any]], features: datasets.Features | None, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_bytes(jsonl(rows))
    expected = told(read(tmp_path / "rows.jsonl"))
    assert {len(row) for row in expected} == {1, 3}, "some rows are rejects"
    if features is None:
        ds = as_datasets_reads(rows, tmp_path)
    else:
        ds = datasets.Dataset.from_list(rows, features)
    assert "arrow.json" in str(ds.data.schema)
    ds.to_parquet(tmp_path / "rows.parquet")
    ds.save_to_disk(tmp_path / "saved")
    with ipc.new_file(tmp_path / "rows.arrow", ds.data.schema) as writer:
        writer.write_table(ds.data.table)
    for name in ("rows.parquet", "saved", "rows.arrow"):
        assert told(read(tmp_path / name)) == expected, name


def by_duckdb(table: pa.Table, path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    given = table.to_pandas()  # JSON as texts
    assert not given.empty
    duckdb.sql("select * replace (output::json as output) from given").write_parquet(str(path))


def by_fastparquet(table: pa.Table, path: Path) -> None:
    fastparquet = pytest.importorskip("fastparquet")
    frame = table.to_pandas()
    frame["output"] = [None if text is None else json.loads(text) for text in frame["output"]]
    encoding = {"id": "infer", "instruction": "utf8", "output": "json"}
    fastparquet.write(str(path), frame, object_encoding=encoding)


def by_pyarrow_without_its_own_types(table: pa.Table, path: Path) -> None:
    """Write what the others write: the type JSON of Parquet alone."""
    parquet.write_table(table, path, store_schema=False)


def by_polars(table: pa.Table, path: Path) -> None:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    frame.write_parquet(path)


@pytest.mark.parametrize(
    "write", [by_duckdb, by_fastparquet, by_pyarrow_without_its_own_types, by_polars]
)
def test_parquet_of_other_libraries(
    write: Callable[[pa.Table, Path], None], tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_bytes(jsonl(MIXED))
    write(as_table(MIXED, "output"), tmp_path / "rows.parquet")
    assert told(read(tmp_path / "rows.parquet")) == told(read(tmp_path / "rows.jsonl"))


def test_maps_and_lists_of_json(tmp_path: Path) -> None:
    turns = CHATS[0]["messages"]
    keys, values = ["role", "content"] * 2, [v for turn in turns for v in turn.values()]
    maps = pa.MapArray.from_arrays([0, 2, 4], pa.array(keys), json_column(values))
    lists = {
        "maps": pa.ListArray.from_arrays([0, 2], maps),
        "large": pa.LargeListArray.from_arrays([0, 2], json_column(turns)),
        "fixed": pa.FixedSizeListArray.from_arrays(json_column(turns), 2),
        "whole": json_column([turns]),
    }
    (tmp_path / "rows.jsonl").write_bytes(jsonl(CHATS[:1]))
    for name, column in lists.items():
        parquet.write_table(pa.table({"id": [0], "messages": column}), tmp_path / f"{name}.parquet")
        assert told(read(tmp_path / f"{name}.parquet")) == told(read(tmp_path / "rows.jsonl"))


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_a_text_that_looks_like_json_is_a_text(kind: Any, tmp_path: Path) -> None:
    texts = ["4", '{"a": 1}', '"quoted"', "[1, 2]", "null"]
    table = pa.table({"instruction": pa.array(texts, kind), "output": pa.array(texts, kind)})
    parquet.write_table(table, tmp_path / "rows.parquet")
    expected = [(b'""', *question_and_answer(text, "", text)) for text in texts]
    assert told(read(tmp_path / "rows.parquet")) == expected


def test_what_is_not_json_is_a_reject_where_it_is_needed(tmp_path: Path) -> None:
    texts = ['"fine"', "{'no': 1}", "1e999", "[" * 100_000, "NaN"]
    outputs = pa.ExtensionArray.from_storage(pa.json_(), pa.array(texts))
    fine = json_column(["b"] * len(texts))
    table = pa.table({"instruction": ["a"] * len(texts), "output": outputs, "other": fine})
    parquet.write_table(table, tmp_path / "rows.parquet")
    good, *bad = read(tmp_path / "rows.parquet")
    assert isinstance(good, Pair)
    assert good.answer == "fine"
    reasons = [item.reason for item in bad if isinstance(item, Reject)]
    assert len(reasons) == len(texts) - 1
    assert [reason.partition(" JSON column is ")[2][:14] for reason in reasons] == [
        "not valid JSON", "not valid JSON", "nested too dee", "not valid JSON",
    ]  # fmt: skip
    # In a column that is not needed it costs nothing.
    rows = read(
        tmp_path / "rows.parquet", columns={"instruction": "instruction", "output": "other"}
    )
    assert [type(row) for row in rows] == [Pair] * len(texts)
    # A path leads into a value of JSON, unless that is none.
    meta = pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"q": "a"}', "{q: 1}"]))
    parquet.write_table(pa.table({"meta": meta, "output": ["b"] * 2}), tmp_path / "rows.parquet")
    inside, outside = read(
        tmp_path / "rows.parquet", columns={"instruction": "meta.q", "output": "output"}
    )
    assert isinstance(inside, Pair)
    assert isinstance(outside, Reject)
    assert "a value of a JSON column is not valid JSON" in outside.reason


def test_ids_of_json(tmp_path: Path) -> None:
    ids = ["a", 1, 12345678901234567890123, {"n": [1, None]}, None, True]
    rows = [{"id": row_id, "instruction": "a", "output": "b"} for row_id in ids]
    parquet.write_table(as_table(rows, "id"), tmp_path / "rows.parquet")
    found = [item.id for item in read(tmp_path / "rows.parquet") if isinstance(item, Pair)]
    assert list(map(json.loads, found)) == ids


def test_a_json_column_that_is_not_utf8(tmp_path: Path) -> None:
    storage = pa.array([b'"b"', b'"\xff"'], pa.binary()).view(pa.string())
    outputs = pa.ExtensionArray.from_storage(pa.json_(), storage)
    sink = io.BytesIO()
    table = pa.table({"instruction": ["a"] * 2, "output": outputs})
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    (tmp_path / "rows.arrow").write_bytes(sink.getvalue())
    good, bad = read(tmp_path / "rows.arrow")
    assert isinstance(good, Pair)
    assert isinstance(bad, Reject)
    assert bad.reason == "a text is not valid UTF-8"


def test_a_pyarrow_that_takes_json_for_texts_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet.write_table(as_table(MIXED, "output"), tmp_path / "rows.parquet")
    monkeypatch.setattr(pa, "__version__", "20.0.0")
    with pytest.raises(ConfigError, match=r"rows\.parquet needs pyarrow 21 or later, and 20\.0\.0"):
        read(tmp_path / "rows.parquet")

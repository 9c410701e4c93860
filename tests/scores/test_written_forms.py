"""Every form of output, read back by the library that people use, is the rows and their scores."""

import gzip
import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import zstandard
from pyarrow import parquet

from forms import FORMS, jsonl, make_rows
from harmless_runtime.model.engine import Engine
from harmless_runtime.pipeline import score_files
from reading import read_rows
from runs import cpu_engine, make_run

COUNT = 120


@pytest.fixture(scope="module")
def engine() -> Engine:
    return cpu_engine()


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    """Rows of which the sixth cannot be scored."""
    rows = make_rows(COUNT)
    rows[5]["output"] = None
    return rows


def read_back(path: Path) -> list[dict[str, Any]]:
    """Read a file of rows with what people read it with."""
    if path.name.endswith(".parquet"):
        found: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
        return found
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    elif path.suffix == ".zst":
        data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return [json.loads(line) for line in data.split(b"\n") if line]


def scores_of(path: Path, folder: Path, engine: Engine) -> list[float | None]:
    """Score rows into ids and scores; return a score for each row, with None for a reject."""
    out = folder / "alone.jsonl"
    score_files(make_run(path, out), engine)
    by_id = {row["id"]: row["score"] for row in read_rows(out)}
    return [by_id.get(f"row-{n}") for n in range(COUNT)]


def same(found: float | None, expected: float | None) -> bool:
    return found == expected or (
        found is not None and expected is not None and np.float32(found) == np.float32(expected)
    )


@pytest.mark.parametrize("name", ["o.jsonl", "o.jsonl.gz", "o.jsonl.zst", "o.parquet", "o"])
@pytest.mark.parametrize(
    "form", ["rows.jsonl.gz", "rows.json", "rows.parquet", "rows.arrow", "saved", "pattern"]
)
def test_joined_rows_are_the_rows(
    form: str, name: str, tmp_path: Path, rows: list[dict[str, Any]], engine: Engine
) -> None:
    source = FORMS[form](rows, tmp_path)
    expected = scores_of(source, tmp_path, engine)
    assert expected.count(None) == 1
    score_files(make_run(source, tmp_path / name, join="harmless_score"), engine)
    found = read_back(tmp_path / name)
    assert [list(row) for row in found] == [[*row, "harmless_score"] for row in rows]
    assert all(same(r.pop("harmless_score"), e) for r, e in zip(found, expected, strict=True))
    assert found == rows


@pytest.mark.parametrize("name", ["o.jsonl", "o.csv", "o.tsv.gz", "o.parquet"])
def test_joined_cells_stay_texts(
    name: str, tmp_path: Path, rows: list[dict[str, Any]], engine: Engine
) -> None:
    rows[0]["output"] = "007"
    rows[5]["output"] = ""
    source = FORMS["semicolons.csv"](rows, tmp_path)
    expected = scores_of(source, tmp_path, engine)
    score_files(make_run(source, tmp_path / name, join="s"), engine)
    out = tmp_path / name
    if ".csv" in name or ".tsv" in name:
        separator = "," if ".csv" in name else "\t"
        table = pd.read_csv(out, sep=separator, dtype=str, keep_default_na=False)
        found = table.to_dict("records")
        for row in found:
            row["s"] = float(row["s"])
    else:
        found = read_back(out)
    assert all(same(row.pop("s"), e) for row, e in zip(found, expected, strict=True))
    assert found == [{**row, "other": json.dumps(row["other"])} for row in rows]


def test_bytes_of_json_stay_as_they_are(tmp_path: Path, engine: Engine) -> None:
    lines = [
        b'{"instruction":"a" ,"output":"b","id":1e400, "x":[1.0,\t-0]  }\r',
        '{"output": "\\u00e9 é", "instruction": "a", "output": "b"}'.encode(),
        b'{"a": {"b": 1}}',
        b"{ }",
        b"[1]",
        b"not JSON",
        b'{"instruction": "\xff", "output": "b"}',
    ]
    (tmp_path / "r.jsonl").write_bytes(b"\n".join(lines))
    score_files(make_run(tmp_path / "r.jsonl", tmp_path / "o.jsonl", join="s"), engine)
    found = (tmp_path / "o.jsonl").read_bytes().splitlines()
    assert len(found) == 4
    for line, before in zip(found, lines, strict=False):
        kept = before.rstrip(b"\r ").removesuffix(b"}")
        assert line.startswith(kept)
        assert line.removeprefix(kept).startswith((b', "s": ', b'"s": '))
    assert found[2:] == [b'{"a": {"b": 1}, "s": null}', b'{ "s": null}']
    rejects = read_rows(tmp_path / "o.rejects.jsonl")
    assert [reject["line"] for reject in rejects] == [3, 4, 5, 6, 7]


def test_types_and_metadata_of_parquet_are_kept(tmp_path: Path, engine: Engine) -> None:
    table = pa.table(
        {
            "z": pa.array([1, None], pa.int16()),
            "instruction": pa.array(["a", "a"]).dictionary_encode(),
            "output": pa.array(["b", None], pa.large_string()),
            "at": pa.array([0, 1], pa.timestamp("us", "UTC")),
            "raw": pa.array([b"\xff", None], pa.binary()),
            "text": pa.array([b"\xff", b"ok"], pa.binary()).view(pa.string()),
        }
    )
    parquet.write_table(table, tmp_path / "r.parquet")
    score_files(make_run(tmp_path / "r.parquet", tmp_path / "o.parquet", join="s"), engine)
    written = parquet.read_table(tmp_path / "o.parquet")
    before = parquet.read_table(tmp_path / "r.parquet")
    assert written.drop_columns("s").cast(before.schema).equals(before)
    assert written.schema.field("s").type == pa.float32()
    assert written["s"].null_count == 1
    score_files(make_run(tmp_path / "r.parquet", tmp_path / "o.jsonl", join="s"), engine)
    assert [row["text"] for row in read_back(tmp_path / "o.jsonl")] == [r"\xff", "ok"]


def test_datasets_read_what_was_joined(
    tmp_path: Path, rows: list[dict[str, Any]], engine: Engine
) -> None:
    dataset = datasets.Dataset.from_list(rows)
    dataset = dataset.cast_column("id", datasets.Value("large_string"))
    dataset.to_parquet(tmp_path / "r.parquet")
    score_files(make_run(tmp_path / "r.parquet", tmp_path / "o.parquet", join="s"), engine)
    cache = str(tmp_path / "cache")
    found = datasets.Dataset.from_parquet(str(tmp_path / "o.parquet"), cache_dir=cache)
    assert found.features == {**dataset.features, "s": datasets.Value("float32")}
    assert found.remove_columns("s").to_list() == rows


def test_ids_and_scores_as_tables(tmp_path: Path, engine: Engine) -> None:
    def score(ids: list[Any], name: str, **options: Any) -> Path:
        rows = [{"id": i, "instruction": "a", "output": f"b{n}"} for n, i in enumerate(ids)]
        (tmp_path / "r.jsonl").write_bytes(jsonl(rows))
        run = make_run(tmp_path / "r.jsonl", tmp_path / name, existing="overwrite", **options)
        score_files(run, engine)
        return tmp_path / name

    scores = [row["score"] for row in read_rows(score([1, 2], "o.jsonl"))]
    for ids, kind, written in (
        ([1, 2**62], pa.int64(), [1, 2**62]),
        (["a,", '"b"'], pa.string(), ["a,", '"b"']),
        ([1, "a"], pa.string(), ["1", "a"]),
        ([{"k": 1}, 2**70], pa.string(), ['{"k": 1}', str(2**70)]),
    ):
        table = parquet.read_table(score(ids, "o.parquet"))
        assert table.schema.field("id").type == kind
        assert table["id"].to_pylist() == written
        assert table["score"].to_pylist() == [np.float32(s) for s in scores]
        frame = pd.read_csv(score(ids, "o.csv"), dtype=str)
        assert frame["id"].tolist() == [str(i) for i in written]
        assert [float(s) for s in frame["score"]] == scores
    detailed = parquet.read_table(score([1, 2], "d.parquet", details=True))
    assert detailed.column_names == ["id", "score", "tokens", "truncated", "source", "line"]
    assert detailed["line"].to_pylist() == [1, 2]
    assert detailed["source"].to_pylist() == [str(tmp_path / "r.jsonl")] * 2


def test_compressed_outputs_are_the_same_bytes_later(
    tmp_path: Path, rows: list[dict[str, Any]], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = FORMS["rows.jsonl"](rows, tmp_path)
    for name in ("a.jsonl.gz", "a.csv.zst", "a.parquet"):
        score_files(make_run(source, tmp_path / name, join="s"), engine)
        with monkeypatch.context() as patches:
            patches.setattr("time.time", lambda: 4e9)
            score_files(make_run(source, tmp_path / f"b{name}", join="s"), engine)
        assert (tmp_path / name).read_bytes() == (tmp_path / f"b{name}").read_bytes()


def test_fields_of_json_become_columns(
    tmp_path: Path, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    row = {"instruction": "a", "output": "b"}
    rows: list[dict[str, Any]] = [{**row, "n": i} for i in range(2000)]
    rows[0] |= {"x": 0, "deep": {"a": 1}}
    rows[1500] |= {"x": "text", "n": 0.5, "deep": {"b": [None]}, "late": 2**70}
    rows[1999] |= {"x": [1], "deep": None}
    (tmp_path / "r.jsonl").write_bytes(jsonl(rows))
    score_files(make_run(tmp_path / "r.jsonl", tmp_path / "o.parquet", join="s"), engine)
    table = parquet.read_table(tmp_path / "o.parquet")
    assert table.column_names == ["instruction", "output", "n", "x", "deep", "late", "s"]
    assert table["n"].to_pylist() == [*range(1500), 0.5, *range(1501, 2000)]
    mixed = dict.fromkeys(range(2000)) | {0: "0", 1500: "text", 1999: "[1]"}
    assert table["x"].to_pylist() == list(mixed.values())
    assert table["late"][1500].as_py() == str(2**70)
    assert table["deep"][0].as_py() == {"a": 1, "b": None}
    assert table["deep"][1500].as_py() == {"a": None, "b": [None]}
    assert "no column of Parquet holds all values of x as they are" in caplog.text

"""Tables and times as programs write them cost no row its score, and no value its meaning."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from harmless_runtime.errors import ConfigError, OutputError
from harmless_runtime.model.engine import Engine
from harmless_runtime.output.checks import check_output
from harmless_runtime.pipeline import score_files
from runs import cpu_engine, make_run


@pytest.fixture(scope="module")
def engine() -> Engine:
    return cpu_engine()


def test_tables_with_columns_in_another_order_or_without_values(
    tmp_path: Path, engine: Engine
) -> None:
    texts = {"instruction": ["a"], "output": ["b"]}
    tables = [
        pa.table({**texts, "x": pa.nulls(1), "n": [1]}),
        pa.table({"n": [2], "x": ["text"], **texts}),
        pa.table({**texts, "x": pa.nulls(1), "n": pa.nulls(1)}),
    ]
    sources = []
    for place, table in enumerate(tables):
        sources.append(tmp_path / f"{place}.parquet")
        parquet.write_table(table, sources[-1])
    score_files(make_run(sources, tmp_path / "o.parquet", join="s"), engine)
    found = parquet.read_table(tmp_path / "o.parquet")
    assert found.column_names == ["instruction", "output", "x", "n", "s"]
    assert found["x"].to_pylist() == [None, "text", None]
    assert found["n"].to_pylist() == [1, 2, None]
    parquet.write_table(pa.table({**texts, "x": ["text"], "n": [0.5]}), sources[2])
    with pytest.raises(OutputError, match="have the column n in two types, int64 and double"):
        check_output(make_run(sources, tmp_path / "p.parquet", join="s"))
    check_output(make_run(sources, tmp_path / "p.jsonl", join="s"))


def test_csv_of_spreadsheets(tmp_path: Path, engine: Engine) -> None:
    content = b"id;instruction;output;;\n1;a;b;c;\n;;;;\n2;a;;;d\n"
    (tmp_path / "r.csv").write_bytes(content)
    out = tmp_path / "o.csv"
    score_files(make_run(tmp_path / "r.csv", out, join="s"), engine)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["1", "", "2"]
    assert [(row["Unnamed: 3"], row["Unnamed: 4"]) for row in rows] == [
        ("c", ""), ("", ""), ("", "d"),
    ]  # fmt: skip
    assert [bool(row["s"]) for row in rows] == [True, False, True]


TIMES = pa.table(
    {
        "instruction": ["a"] * 3,
        "output": ["b"] * 3,
        "at": pa.array([10**9, 1714564800123456789, None], pa.timestamp("ns")),
        "zone": pa.array([10**9, 1714564800123456789, None], pa.timestamp("ns", "Europe/Berlin")),
        "took": pa.array([10**9, -1500000001, None], pa.duration("ns")),
        "time": pa.array([43200 * 10**9, 43200123456789, None], pa.time64("ns")),
        "old": pa.array([0, -(10**15), 10**15], pa.timestamp("ms")),
    }
)


WITHOUT_PANDAS = """
import sys
class Finder:
    def find_spec(self, name, *_):
        if name == "pandas":
            raise ImportError(name)
sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize("with_pandas", [True, False])
@pytest.mark.parametrize("out", ["o.jsonl", "o.csv"])
def test_times_keep_their_nanoseconds(out: str, with_pandas: bool, tmp_path: Path) -> None:
    parquet.write_table(TIMES, tmp_path / "r.parquet")
    program = "" if with_pandas else WITHOUT_PANDAS
    program += "from harmless_runtime.cli.app import main; main()"
    command = ["score", "r.parquet", "-o", out, "--join", "--score-column", "s", "--model", "demo"]
    subprocess.run([sys.executable, "-c", program, *command], cwd=tmp_path, check=True)
    if out == "o.csv":
        with (tmp_path / out).open(newline="") as file:
            found: list[dict[str, Any]] = [
                {name: value or None for name, value in row.items()} for row in csv.DictReader(file)
            ]
    else:
        found = list(map(json.loads, (tmp_path / out).read_text().splitlines()))
    assert [row["at"] for row in found] == [
        "1970-01-01T00:00:01", "2024-05-01T12:00:00.123456789", None,
    ]  # fmt: skip
    assert [row["zone"] for row in found] == [
        "1970-01-01T01:00:01+01:00", "2024-05-01T14:00:00.123456789+02:00", None,
    ]  # fmt: skip
    assert [row["took"] for row in found] == ["PT1S", "-PT1.500000001S", None]
    assert [row["time"] for row in found] == ["12:00:00", "12:00:00.123456789", None]
    assert [row["old"] for row in found] == [
        "1970-01-01T00:00:00",
        "-29719-04-05T22:13:20.000",
        10**15 if out == "o.jsonl" else str(10**15),
    ]


def test_lists_and_maps_of_arrow_with_bytes_that_are_not_utf8(
    tmp_path: Path, engine: Engine
) -> None:
    texts = pa.array([b"ok", b"\xff"], pa.binary()).view(pa.string())
    table = pa.table(
        {
            "instruction": ["a"],
            "output": ["b"],
            "fixed": pa.FixedSizeListArray.from_arrays(texts, 2),
            "map": pa.MapArray.from_arrays([0, 2], pa.array(["k", "l"]), texts),
        }
    )
    with ipc.new_file(tmp_path / "r.arrow", table.schema) as writer:
        writer.write_table(table)
    score_files(make_run(tmp_path / "r.arrow", tmp_path / "o.jsonl", join="s"), engine)
    row = json.loads((tmp_path / "o.jsonl").read_text())
    assert row["fixed"] == ["ok", r"\xff"]
    assert row["map"] == [["k", "ok"], ["l", r"\xff"]]


@pytest.mark.parametrize(
    "metadata",
    [b'{"info":null}', b"[]", b"null", b"not json", b"\xff", b'{"info":{"features":[]}}'],
)
def test_metadata_that_datasets_did_not_write(
    metadata: bytes, tmp_path: Path, engine: Engine
) -> None:
    table = pa.table({"instruction": ["a"], "output": ["b"]})
    table = table.replace_schema_metadata({b"huggingface": metadata})
    parquet.write_table(table, tmp_path / "r.parquet")
    score_files(make_run(tmp_path / "r.parquet", tmp_path / "o.parquet", join="s"), engine)
    assert parquet.read_schema(tmp_path / "o.parquet").metadata[b"huggingface"] == metadata


def test_types_that_parquet_does_not_have_are_refused_before_scoring(tmp_path: Path) -> None:
    union = pa.UnionArray.from_dense(
        pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1])]
    )
    table = pa.table({"instruction": ["a"], "output": ["b"], "u": union})
    with ipc.new_file(tmp_path / "r.arrow", table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(OutputError, match=r"has the column u of type .*, which Parquet does not"):
        check_output(make_run(tmp_path / "r.arrow", tmp_path / "o.parquet", join="s"))


@pytest.mark.parametrize("zone", ["Nowhere/City", "+25:00"])
@pytest.mark.parametrize("count", [10**9, 1714564800123456789])
def test_a_time_in_a_zone_that_is_not_known_stays_a_number(
    zone: str, count: int, tmp_path: Path, engine: Engine
) -> None:
    at = pa.array([count], pa.timestamp("ns", zone))
    table = pa.table({"instruction": ["a"], "output": ["b"], "at": at})
    parquet.write_table(table, tmp_path / "r.parquet")
    score_files(make_run(tmp_path / "r.parquet", tmp_path / "o.jsonl", join="s"), engine)
    assert json.loads((tmp_path / "o.jsonl").read_text())["at"] == count


def test_a_name_that_is_not_utf8(tmp_path: Path, engine: Engine) -> None:
    parquet.write_table(TIMES, tmp_path / "r.parquet")
    out = tmp_path / "caf\udce9.parquet"
    score_files(make_run(tmp_path / "r.parquet", out, join="s"), engine)
    with out.open("rb") as file:
        assert parquet.read_table(file).num_rows == 3


def test_a_missing_package_is_told_before_scoring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "r.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"o\.parquet needs a package that is missing: pyarrow"):
        check_output(make_run(tmp_path / "r.jsonl", tmp_path / "o.parquet"))

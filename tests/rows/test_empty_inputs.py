"""Inputs without rows are warned of once, and recorded, wherever they stand."""

import csv
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest
from interrupted import resume, score, stop_after
from pyarrow import ipc, parquet

from harmless_runtime.rows.inputs import open_inputs
from harmless_runtime.scorer import Gpt2HarmlessScorer
from harmless_runtime.scores.record import read_record
from processes import Harmless
from runs import cpu_engine

ROW = {"id": 1, "instruction": "a", "output": "b"}
LINE = json.dumps(ROW).encode() + b"\n"


def write(folder: Path) -> list[Path]:
    """Write inputs without rows of every form."""
    table = pa.Table.from_pylist([ROW])[:0]
    contents = {
        "a.jsonl": b"",
        "b.jsonl": b"\n \r\n\n",
        "c.jsonl": b"\xef\xbb\xbf",
        "d.jsonl.gz": gzip.compress(b""),
        "e.csv": b"",
        "f.csv": b"id,instruction,output\r\n",
        "g.csv": b"\xef\xbb\xbf\n",
        "h.json": b"[]",
        "i.json": b" [\n] \n",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    parquet.write_table(table, folder / "j.parquet")
    with ipc.new_file(folder / "k.arrow", table.schema):
        pass
    with ipc.new_stream(folder / "l.arrow", table.schema):
        pass
    return sorted(folder.iterdir())


def rows_recorded(out: Path) -> dict[str, int | None]:
    record = read_record(Path(f"{out}.run.json"))
    assert record is not None
    return {Path(facts.name).name: facts.rows for facts in record.inputs}


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if "no rows" in r.getMessage()]


def test_each_kind_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "in").mkdir()
    empty = write(tmp_path / "in")
    (tmp_path / "rows.jsonl").write_bytes(LINE * 3)
    out = tmp_path / "o.jsonl"
    summary = score([tmp_path / "rows.jsonl", *empty], out, cpu_engine())
    assert summary.tally.rows == 3
    assert rows_recorded(out) == {"rows.jsonl": 3, **{path.name: 0 for path in empty}}
    (told,) = warnings_in(caplog)
    first = ", ".join(map(str, empty[:3]))
    assert told == f"these inputs hold no rows: {first} and {len(empty) - 3} more"


def test_rows_are_counted_though_they_cannot_be_scored(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(LINE + b"\noops\n" + LINE)
    score(rows, tmp_path / "o.jsonl", cpu_engine())
    assert rows_recorded(tmp_path / "o.jsonl") == {"rows.jsonl": 3}


def test_a_run_that_is_resumed_tells_of_them_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"{n}.jsonl" for n in range(9)]
    for name in names:
        (tmp_path / name).write_bytes(LINE * 20)
    for name in ("1.jsonl", "7.jsonl"):  # before the place that the run comes to, and after it
        (tmp_path / name).write_bytes(b"\n")
    out, sources = tmp_path / "o.jsonl", [tmp_path / name for name in names]
    engine = cpu_engine(window_rows=10, piece_bytes=700)
    stop_after(80, sources, out, engine)
    assert warnings_in(caplog) == []
    resume(sources, out, engine)
    expected = dict.fromkeys(names, 20) | {"1.jsonl": 0, "7.jsonl": 0}
    assert rows_recorded(out) == expected
    assert warnings_in(caplog) == [
        f"these inputs hold no rows: {tmp_path}/1.jsonl, {tmp_path}/7.jsonl"
    ]
    assert resume(sources, out, engine).is_old


def test_the_records_of_older_releases_are_read(tmp_path: Path) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "o.jsonl"
    rows.write_bytes(LINE)
    score(rows, out, cpu_engine())
    path = Path(f"{out}.run.json")
    record = json.loads(path.read_bytes())
    del record["inputs"][0]["rows"]
    path.write_text(json.dumps(record))
    assert rows_recorded(out) == {"rows.jsonl": None}
    assert resume(rows, out, cpu_engine()).is_old


def test_nothing_but_empty_inputs(tmp_path: Path, harmless: Harmless) -> None:
    write(tmp_path)
    done = harmless("score", tmp_path, "-o", tmp_path / "out/o.jsonl", "--model", "demo", "-q")
    assert done.returncode == 0, done.stderr
    (warning,) = done.stderr.splitlines()
    assert warning.startswith(f"warning: the inputs hold no rows: {tmp_path}/a.jsonl, ")
    assert (tmp_path / "out/o.jsonl").read_bytes() == b""


def test_python_and_the_dry_run_tell_of_them(
    tmp_path: Path, harmless: Harmless, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINE)
    (tmp_path / "b.jsonl").write_bytes(b"")
    assert len(Gpt2HarmlessScorer({"model": "demo"}).evaluate(tmp_path)) == 1
    assert warnings_in(caplog) == [f"these inputs hold no rows: {tmp_path}/b.jsonl"]
    done = harmless("score", tmp_path, "--dry-run", "--model", "demo")
    assert f"warning: these inputs hold no rows: {tmp_path}/b.jsonl\n" in done.stderr


def test_csv_files_without_a_header_do_not_keep_others_from_being_joined(
    tmp_path: Path, harmless: Harmless
) -> None:
    (tmp_path / "a.csv").write_bytes(b"")
    (tmp_path / "b.csv").write_text("id,instruction,output\n1,a,b\n")
    (tmp_path / "c.csv").write_bytes(b"\n")
    out = tmp_path / "out" / "joined.csv"
    done = harmless("score", tmp_path, "-o", out, "--join", "--model", "demo")
    assert done.returncode == 0, done.stderr
    with out.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["id"], row["instruction"], row["output"]) == ("1", "a", "b")


def test_an_input_that_was_not_read_to_its_end_is_not_called_empty(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"")
    (tmp_path / "b.jsonl").write_bytes(LINE * 2)
    (tmp_path / "c.jsonl").write_bytes(b"")
    inputs = open_inputs([str(tmp_path)])
    rows = inputs.rows()
    next(rows)
    inputs.warn_of_empty()
    assert warnings_in(caplog) == [f"these inputs hold no rows: {tmp_path}/a.jsonl"]

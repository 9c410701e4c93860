"""Write the same rows in every form that is read."""

import bz2
import csv
import gzip
import json
import lzma
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import zstandard
from pyarrow import ipc, parquet

from harmless_runtime.rows.inputs import open_inputs
from harmless_runtime.rows.records import Pair, Reject
from harmless_runtime.rows.shapes import Reading

Rows = Sequence[dict[str, Any]]
Writer = Callable[[Rows, Path], Path]


def make_rows(count: int) -> list[dict[str, Any]]:
    """Make rows with texts that a form could spoil: quotes, line ends, other scripts, nothing."""
    answers = ["fine", 'said "no", twice', "one\nline\r\nmore", "日本 🙂\u2028end", "", " , "]
    return [
        {
            "id": f"row-{n}",
            "instruction": f"Say\t{n}.",
            "input": "" if n % 3 else f"context {n}",
            "output": answers[n % len(answers)] + " word" * (n % 7),
            "other": {"scores": [n, n / 2], "tags": ["a", "b"]},
        }
        for n in range(count)
    ]


def jsonl(rows: Rows) -> bytes:
    """Return rows as JSON lines."""
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def _bytes(name: str, make: Callable[[Rows], bytes]) -> tuple[str, Writer]:
    def write(rows: Rows, folder: Path) -> Path:
        path = folder / name
        path.write_bytes(make(rows))
        return path

    return name, write


def _delimited(name: str, delimiter: str) -> tuple[str, Writer]:
    def write(rows: Rows, folder: Path) -> Path:
        path = folder / name
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=delimiter)
            writer.writerow(rows[0])
            writer.writerows(
                [v if isinstance(v, str) else json.dumps(v) for v in row.values()] for row in rows
            )
        return path

    return name, write


def _table(rows: Rows) -> pa.Table:
    return pa.Table.from_pylist(list(rows))


def _parquet(rows: Rows, folder: Path) -> Path:
    parquet.write_table(_table(rows), folder / "rows.parquet", row_group_size=90)
    return folder / "rows.parquet"


def _arrow_file(rows: Rows, folder: Path) -> Path:
    table = _table(rows)
    with ipc.new_file(folder / "rows.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=100)
    return folder / "rows.arrow"


def _saved(rows: Rows, folder: Path) -> Path:
    datasets.Dataset.from_list(list(rows)).save_to_disk(folder / "saved", num_shards=2)
    return folder / "saved"


def _folder(rows: Rows, folder: Path) -> Path:
    """Write a folder with a file of each kind, and files that are none of them."""
    path = folder / "folder"
    (path / "deep").mkdir(parents=True)
    third = len(rows) // 3
    (path / "a.jsonl").write_bytes(jsonl(rows[:third]))
    (path / "b.json.gz").write_bytes(gzip.compress(jsonl(rows[third : 2 * third])))
    parquet.write_table(_table(rows[2 * third :]), path / "deep" / "c.parquet")
    (path / "_SUCCESS").touch()
    (path / ".a.jsonl.crc").write_bytes(b"crc")
    (path / "README.md").write_text("rows")
    return path


def _pattern(rows: Rows, folder: Path) -> Path:
    path = folder / "pattern"
    path.mkdir()
    half = len(rows) // 2
    (path / "part-0.jsonl").write_bytes(jsonl(rows[:half]))
    (path / "part-1.jsonl").write_bytes(jsonl(rows[half:]))
    (path / "other.jsonl").write_bytes(b"not a row")
    return path / "part-*.jsonl"


def _members(rows: Rows, compress: Callable[[bytes], bytes]) -> bytes:
    half = len(rows) // 2
    return compress(jsonl(rows[:half])) + compress(jsonl(rows[half:]))


FORMS: dict[str, Writer] = dict(
    [
        _bytes("rows.jsonl", jsonl),
        _bytes("rows.jsonl.gz", lambda rows: _members(rows, gzip.compress)),
        _bytes("rows.jsonl.bz2", lambda rows: _members(rows, bz2.compress)),
        _bytes("rows.jsonl.xz", lambda rows: _members(rows, lzma.compress)),
        _bytes("rows.jsonl.zst", lambda rows: _members(rows, zstandard.compress)),
        _bytes(
            "skipped.zst",
            lambda rows: b"\x5a\x2a\x4d\x18\x02\0\0\0no" + zstandard.compress(jsonl(rows)),
        ),
        _bytes("no-suffix", lambda rows: gzip.compress(jsonl(rows))),
        _bytes("rows.json", lambda rows: json.dumps(list(rows), indent=1).encode()),
        _bytes("rows.json.gz", lambda rows: gzip.compress(json.dumps(list(rows)).encode())),
        _delimited("rows.csv", ","),
        _delimited("semicolons.csv", ";"),
        _delimited("rows.tsv", "\t"),
        _delimited("bars.csv", "|"),
        _delimited("table", "\t"),
        ("rows.parquet", _parquet),
        ("rows.arrow", _arrow_file),
        ("saved", _saved),
        ("folder", _folder),
        ("pattern", _pattern),
    ]
)


def read(*names: str | Path, **reading: Any) -> list[Pair | Reject]:
    """Read all rows of inputs."""
    return list(open_inputs(map(str, names), Reading(**reading)).rows())

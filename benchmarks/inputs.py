"""Compare the forms of input: seconds and peak memory of the command on the same rows.

    python benchmarks/inputs.py --count 1000000
    python benchmarks/inputs.py --count 1000000 --reading --beside path/to/another/checkout

The rows are short, and the bundled model scores them, so that reading has the larger share. Every
run is a process of its own, and the runs of the forms take turns. The scores have to be equal.

With --reading the rows are only read, as pairs of texts, and with --beside another checkout reads
them as well, in turns with this one.
"""

import argparse
import csv
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harmless_runtime.rows.inputs import open_inputs
from harmless_runtime.rows.records import Pair
from suite.files import revision, write_result
from suite.isolation import in_a_process, run_harmless
from suite.options import add_rounds, parser_for, read_options
from suite.rounds import need
from suite.scorers import Setting

FIELDS = ("id", "instruction", "output")
_PARTS = 10


def rows_of(count: int) -> Iterator[tuple[str, str, str]]:
    """Yield rows of a few tokens, no two of which are equal."""
    for i in range(count):
        yield f"row-{i}", f"Add {i} and 1.", f"{i + 1}"


def lines_of(count: int) -> Iterator[str]:
    """Yield the rows as JSON lines."""
    for values in rows_of(count):
        yield json.dumps(dict(zip(FIELDS, values, strict=True))) + "\n"


def write_jsonl(path: Path, count: int) -> None:
    """Write one file of JSON lines."""
    with path.open("w") as file:
        file.writelines(lines_of(count))


def write_gzipped_folder(path: Path, count: int) -> None:
    """Write a folder of gzipped files of JSON lines."""
    path.mkdir()
    lines = lines_of(count)
    for part in range(_PARTS):
        with gzip.open(path / f"part-{part}.jsonl.gz", "wt", 6) as file:
            end = count * (part + 1) // _PARTS - count * part // _PARTS
            file.writelines(next(lines) for _ in range(end))


def write_array(path: Path, count: int) -> None:
    """Write one JSON array."""
    with path.open("w") as file:
        for i, line in enumerate(lines_of(count)):
            file.write(("[" if i == 0 else ",\n") + line.rstrip())
        file.write("]\n")


def write_csv(path: Path, count: int) -> None:
    """Write a CSV file."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(FIELDS)
        writer.writerows(rows_of(count))


def write_parquet(path: Path, count: int) -> None:
    """Write a Parquet file with one row group, and a column that nobody needs."""
    import pyarrow as pa
    from pyarrow import parquet

    columns = dict(zip(FIELDS, zip(*rows_of(count), strict=True), strict=True))
    unused = [f"{i} not needed" for i in range(count)]
    parquet.write_table(pa.table(columns | {"unused": unused}), path, row_group_size=count)


def write_arrow(path: Path, count: int) -> None:
    """Write an Arrow IPC file."""
    import pyarrow as pa

    table = pa.table(dict(zip(FIELDS, zip(*rows_of(count), strict=True), strict=True)))
    with pa.ipc.new_file(path, table.schema) as file:
        file.write_table(table, max_chunksize=10_000)


@dataclass
class Measured:
    """What one form took: in each round, and the memory of few rows.

    `seconds` are the command's, and `read_seconds` those of reading the rows and nothing else.
    """

    seconds: list[float] = field(default_factory=list)
    read_seconds: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)
    few_peak_mb: float = 0.0


FORMS: dict[str, tuple[str, Callable[[Path, int], None]]] = {
    "JSON lines": ("rows.jsonl", write_jsonl),
    "Parquet": ("rows.parquet", write_parquet),
    "Arrow": ("rows.arrow", write_arrow),
    "a folder of gzipped JSON lines": ("folder", write_gzipped_folder),
    "CSV": ("rows.csv", write_csv),
    "a JSON array": ("rows.json", write_array),
}


def main() -> None:
    """Measure, print, and write `benchmarks/results/inputs-….json`."""
    parser = parser_for(__doc__)
    add_rounds(parser)
    parser.add_argument("--count", type=int, default=1_000_000, help="how many rows")
    parser.add_argument("--few", type=int, default=50_000, help="rows for the memory of few")
    parser.add_argument("--forms", nargs="+", choices=list(FORMS), default=list(FORMS))
    parser.add_argument("--reading", action="store_true", help="read the rows, and score nothing")
    parser.add_argument("--beside", type=Path, help="with --reading: another checkout")
    parser.set_defaults(model="demo", rounds=1)
    args = parser.parse_args()
    options = read_options(args)
    setting = Setting(Path("demo"), options.cache, options.provider, options.max_length)
    if args.reading:
        write_result("reading", options, setting, compare_reading(args, options.rounds))
        return
    results = {form: Measured() for form in args.forms}
    digests = set()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for form in args.forms:
            source = folder / "few" / FORMS[form][0]
            source.parent.mkdir(exist_ok=True)
            FORMS[form][1](source, args.few)
            results[form].few_peak_mb = score(source, folder / "o.jsonl")[1]
            FORMS[form][1](folder / FORMS[form][0], args.count)
        shutil.rmtree(folder / "few")
        for _ in range(options.rounds):
            for form in args.forms:
                seconds, peak = score(folder / FORMS[form][0], folder / "o.jsonl")
                results[form].seconds.append(seconds)
                read = need(in_a_process(read_all, folder / FORMS[form][0], args.count), form)
                results[form].read_seconds.append(read)
                results[form].peak_mb.append(peak)
                digests.add(hashlib.sha256((folder / "o.jsonl").read_bytes()).hexdigest())
                print(form, results[form], flush=True)
    if len(digests) != 1:
        raise SystemExit("the scores of the forms differ")
    figures = {
        "rows": args.count,
        "few_rows": args.few,
        "results": {form: asdict(measured) for form, measured in results.items()},
    }
    write_result("inputs", options, setting, figures)


def compare_reading(args: argparse.Namespace, rounds: int) -> dict[str, Any]:
    """Return the seconds of reading each form in each round, of this and perhaps other code."""
    here = Path(__file__).parents[1]
    checkouts = {"this": here} | ({"beside": args.beside} if args.beside else {})
    results: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        for form in args.forms:
            source = Path(name, FORMS[form][0])
            FORMS[form][1](source, args.count)
            seconds: dict[str, list[float]] = {whose: [] for whose in checkouts}
            for _ in range(rounds):
                for whose, checkout in checkouts.items():
                    seconds[whose].append(read_with(checkout, source, args.count))
            results[form] = seconds
            print(form, seconds, flush=True)
    beside = revision(args.beside) if args.beside else None
    return {"rows": args.count, "beside": beside, "results": results}


def read_with(checkout: Path, source: Path, count: int) -> float:
    """Read all rows with the code of a checkout, in a process of its own; return the seconds."""
    script = f"import inputs; print(inputs.read_all(inputs.Path({str(source)!r}), {count}))"
    paths = [str(checkout / "runtime"), str(Path(__file__).parent)]
    told = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(told.stdout)


def read_all(source: Path, count: int) -> float:
    """Read all rows as pairs of texts; return the seconds."""
    start = time.perf_counter()
    read = sum(isinstance(item, Pair) for item in open_inputs([str(source)]).rows())
    seconds = time.perf_counter() - start
    if read != count:
        raise RuntimeError(f"{read} of {count} rows were read")
    return round(seconds, 3)


def score(source: Path, out: Path) -> tuple[float, float]:
    """Run the command; return its seconds and its peak memory in MB."""
    seconds, peak = run_harmless("score", source, "-o", out, "--model", "demo", "--overwrite")
    return round(seconds, 1), round(peak / 1e6, 1)


if __name__ == "__main__":
    main()

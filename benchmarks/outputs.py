"""Measure the last step of a run, `harmless select` and `harmless report`: seconds, peak memory.

    python benchmarks/outputs.py --count 1000000

The scores are made up, because the last step does not depend on them: it reads the rows and the
scores of a run that has scored all rows, and writes the output. Every step is a process of its own.
"""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from harmless_runtime.rows.digest import InputDigest
from harmless_runtime.rows.inputs import open_inputs
from harmless_runtime.rows.output_lines import score_line
from inputs import rows_of, write_gzipped_folder, write_jsonl, write_parquet
from suite.files import write_result
from suite.isolation import run_harmless, run_python
from suite.options import parser_for, read_options
from suite.scorers import Setting

JOINED = "harmless_score"
LAST_STEP = Path(__file__).parent / "suite" / "last_step.py"


@dataclass
class Measured:
    """What one step took. `few_peak_mb` is the memory for few rows."""

    seconds: float
    peak_mb: float
    few_peak_mb: float


@dataclass(frozen=True)
class Step:
    """A last step: of which rows, into which output, joined or not."""

    rows: str
    output: str
    join: bool = True


STEPS = {
    "ids and scores as Parquet": Step("rows.jsonl", "a.parquet", join=False),
    "JSON lines joined": Step("rows.jsonl", "b.jsonl"),
    "JSON lines joined, gzipped": Step("rows.jsonl", "c.jsonl.gz"),
    "JSON lines joined as Parquet": Step("rows.jsonl", "d.parquet"),
    "Parquet joined": Step("rows.parquet", "e.parquet"),
    "a gzipped folder joined into a folder": Step("folder", "f"),
}
SELECTIONS = {
    "select 90 % of joined JSON lines": ("b.jsonl", "kept.jsonl"),
    "select 90 % of joined Parquet": ("e.parquet", "kept.parquet"),
    "select 90 % of JSON lines by scores beside them": ("rows.jsonl", "beside.jsonl"),
}
# Whether the rows are named.
REPORTS = {"report of scores alone": False, "report with the rows": True}


def main() -> None:
    """Measure, print, and write `benchmarks/results/outputs-….json`."""
    parser = parser_for(__doc__)
    parser.add_argument("--count", type=int, default=1_000_000, help="how many rows")
    parser.add_argument("--few", type=int, default=50_000, help="rows for the memory of few")
    parser.set_defaults(model="demo")
    args = parser.parse_args()
    options = read_options(args)
    few, many = (measure(count) for count in (args.few, args.count))
    results = {
        name: asdict(Measured(seconds, peak, few[name][1]))
        for name, (seconds, peak) in many.items()
    }
    setting = Setting(Path("demo"), options.cache, options.provider, options.max_length)
    figures = {"rows": args.count, "few_rows": args.few, "results": results}
    write_result("outputs", options, setting, figures)


def measure(count: int) -> dict[str, tuple[float, float]]:
    """Take every step with so many rows; return its seconds and its peak memory in MB."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_jsonl(folder / "rows.jsonl", count)
        write_gzipped_folder(folder / "folder", count)
        write_parquet(folder / "rows.parquet", count)
        (folder / "scores.jsonl").write_bytes(b"".join(score_lines(count)))
        for label, step in STEPS.items():
            digest = digest_of(folder / step.rows)
            out = folder / step.output
            seconds, peak = run_python(
                LAST_STEP, folder / step.rows, out, JOINED if step.join else "",
                folder / "scores.jsonl", str(digest.lines), digest.text,
            )  # fmt: skip
            if out.suffix:
                out.with_name(f"{out.name}.made").replace(out)
            found[label] = (round(seconds, 1), round(peak / 1e6, 1))
            print(count, label, *found[label], flush=True)
        for label, (rows, kept) in SELECTIONS.items():
            beside: list[str | Path] = []
            if rows == "rows.jsonl":
                beside = ["--scores", folder / "scores.jsonl"]
            seconds, peak = run_harmless(
                "select", folder / rows, "-o", folder / kept, "--top", "90%", *beside
            )
            found[label] = (round(seconds, 1), round(peak / 1e6, 1))
            print(count, label, *found[label], flush=True)
        for label, with_rows in REPORTS.items():
            named: list[str | Path] = ["--rows", folder / "rows.jsonl"] if with_rows else []
            seconds, peak = run_harmless(
                "report", folder / "scores.jsonl", "-o", folder / f"{label}.html", *named
            )
            found[label] = (round(seconds, 1), round(peak / 1e6, 1))
            print(count, label, *found[label], flush=True)
        kept_lines = (folder / "kept.jsonl").read_bytes().count(b"\n")
        if kept_lines != round(0.9 * count):
            raise SystemExit(f"{kept_lines:,} of {count:,} rows were kept")
    return found


def score_lines(count: int) -> Iterator[bytes]:
    """Yield a line of scores for each row."""
    scores = np.random.default_rng(0).standard_normal(count).astype(np.float32)
    for (row_id, *_), score in zip(rows_of(count), scores, strict=True):
        yield score_line(json.dumps(row_id).encode(), score)


def digest_of(source: Path) -> InputDigest:
    """Return the number and the hash of the rows of an input."""
    digest = InputDigest()
    digest.add(open_inputs([str(source)]).rows())
    return digest


if __name__ == "__main__":
    main()

"""Measure the memory of `harmless`, which has to stay flat, and the time that it takes to start.

    python benchmarks/footprint.py --model random:gpt2-large

Every figure is of the installed command, run as a process. The operating system counts its peak
resident memory, which includes pages of memory-mapped files. Short rows go through the bundled
model, so that reading, batching and writing have the larger share. One row goes through the given
model, whose weights are then all that matters.
"""

import json
import statistics
import tempfile
from pathlib import Path

from harmless_runtime.model.artifact import WEIGHTS
from suite.competitors import harmless_artifact
from suite.files import write_result
from suite.isolation import run_harmless
from suite.options import add_precision, parser_for, read_options
from suite.rounds import set_up
from suite.workload import Row, write_rows

STARTS = 5


def short_rows(path: Path, count: int) -> None:
    """Write rows of a few tokens, no two of which are equal."""
    write_rows(path, (Row(f"Add {i} and 1.", f"{i + 1}") for i in range(count)))


def main() -> None:
    """Measure, print, and write `benchmarks/results/footprint-PRECISION-….json`."""
    parser = parser_for(__doc__)
    parser.add_argument("--short-rows", type=int, nargs="+", default=[50_000, 1_000_000])
    add_precision(parser)
    args = parser.parse_args()
    options = read_options(args)
    setting = set_up(options, [f"harmless-{options.precision}"])
    artifact = harmless_artifact(setting, options.precision)
    weights = (artifact / WEIGHTS).stat().st_size
    short = []
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "rows.jsonl"), Path(folder, "scores.jsonl")
        for count in args.short_rows:
            short_rows(source, count)
            seconds, peak = run_harmless(
                "score", source, "-o", out, "--model", "demo", "--overwrite"
            )
            assert sum(1 for _ in out.open("rb")) == count
            short.append({"rows": count, "seconds": round(seconds, 1), "peak_mb": peak // 10**6})
            print(short[-1], flush=True)
        short_rows(source, 1)
        flags: tuple[str | Path, ...] = ("--model", artifact, "--provider", options.provider)
        one_row, peak = run_harmless("score", source, "-o", out, "--overwrite", *flags)
    starts = {
        name: [round(run_harmless(*arguments)[0], 3) for _ in range(STARTS)]
        for name, arguments in {"help": ("--help",), "demo": ("demo",)}.items()
    }
    figures = {
        "precision": options.precision,
        "short_rows": short,
        "short_rows_growth": round(short[-1]["peak_mb"] / short[0]["peak_mb"], 3),
        "weights_gb": round(weights / 1e9, 3),
        "one_row_seconds": round(one_row, 2),
        "one_row_peak_gb": round(peak / 1e9, 3),
        "one_row_peak_over_weights": round(peak / weights, 3),
        "start_seconds": starts,
        "start_medians": {name: statistics.median(times) for name, times in starts.items()},
    }
    print(json.dumps(figures))
    write_result(f"footprint-{options.precision}", options, setting, figures)


if __name__ == "__main__":
    main()

"""Measure rows and tokens per second of every competitor, on the same rows in the same run.

    python benchmarks/throughput.py --model random:gpt2 --rows FILE --count 256

Each round runs every competitor once, in a fresh process. The competitor loads, scores a few rows
to warm up, and is timed over all rows, tokenisation included. Its scores are compared with
PyTorch's in fp32, and if they are off by more than its precision allows, the benchmark fails.
Plain matrix products at the model's shapes are timed as well.
"""

import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from suite.competitors import COMPETITORS, TRUTH
from suite.files import write_compared
from suite.isolation import Outcome, in_a_process
from suite.matmul import measure_peaks
from suite.options import (
    Options,
    add_competitors,
    add_rounds,
    add_rows,
    parser_for,
    read_options,
)
from suite.rounds import first_failure, in_rounds, need, parity_of, precision_of, set_up
from suite.scorers import Competitor, Pairs, Setting
from suite.workload import Row, load_rows

WARM_UP = 4


@dataclass(frozen=True)
class Timed:
    """One competitor, timed once over all rows.

    `load_seconds` is the time to load it. `first_seconds` is the time of a pass before this one, in
    which kernels were planned and compiled, if there was one.
    """

    seconds: float
    scores: list[float]
    tokens: int
    padded_tokens: int
    load_seconds: float = 0.0
    first_seconds: float | None = None


def run_once(name: str, setting: Setting, rows: list[Row]) -> Timed:
    """Load a competitor, and time it over the rows."""
    start = time.perf_counter()
    competitor = COMPETITORS[name](setting)
    load_seconds = time.perf_counter() - start
    pairs = [row.pair for row in rows]
    by_length = sorted(pairs, key=lambda pair: len(pair[0]) + len(pair[1]))
    # Short rows and long ones, so that what is compiled or allocated for a size is not timed.
    competitor.score([*by_length[:WARM_UP], *by_length[-WARM_UP:]])
    return replace(timed(competitor, pairs), load_seconds=load_seconds)


def timed(competitor: Competitor, pairs: Pairs) -> Timed:
    """Time a competitor over all pairs."""
    start = time.perf_counter()
    scored = competitor.score(pairs)
    seconds = time.perf_counter() - start
    return Timed(seconds, scored.scores.tolist(), scored.tokens, scored.padded_tokens)


def summarise(
    name: str,
    runs: Sequence[Outcome[Timed]],
    truth: list[float],
    peaks: dict[str, float],
    flops: float,
) -> dict[str, Any]:
    """Put the rounds of one competitor together."""
    if failure := first_failure(runs):
        return failure.as_result(name)
    rounds = [run.figures for run in runs]
    seconds = [one.seconds for one in rounds]
    last = rounds[-1]
    precision = precision_of(name)
    peak = peaks.get(f"{precision}_flops", peaks["fp32_flops"])
    rate = last.tokens / statistics.median(seconds)
    figures = {
        "name": name,
        "precision": precision,
        "tokens_per_second": round(rate, 1),
        "slowest": round(last.tokens / max(seconds), 1),
        "fastest": round(last.tokens / min(seconds), 1),
        "rows_per_second": round(len(last.scores) / statistics.median(seconds), 2),
        "padding_share": round(1 - last.tokens / last.padded_tokens, 4),
        "share_of_peak": round(rate * flops / peak, 3),
        "load_seconds": round(statistics.median(one.load_seconds for one in rounds), 2),
        "peak_gb": max(run.peak_gb for run in runs),
        "seconds": [round(value, 2) for value in seconds],
    }
    if last.first_seconds is not None:
        figures["first_pass_tokens_per_second"] = round(last.tokens / last.first_seconds, 1)
    return figures | parity_of(name, truth, runs)


def told(run: Timed) -> str:
    """Return a run in a few words."""
    return f"{run.tokens:,} tokens in {run.seconds:.2f} s, loaded in {run.load_seconds:.2f} s"


def matrix_flops(folder: Path) -> int:
    """Return the operations per token in products with weights: 2 for each weight of a layer."""
    config = json.loads((folder / "config.json").read_text())
    width, layers = config["n_embd"], config["n_layer"]
    return int(2 * layers * (4 * width**2 + 2 * width * (config["n_inner"] or 4 * width)))


def main() -> int:
    """Measure, print a line for each run, and write `benchmarks/results/throughput-….json`."""
    parser = parser_for(__doc__)
    add_rows(parser)
    add_competitors(parser)
    add_rounds(parser)
    options = read_options(parser.parse_args())
    setting = replace(set_up(options, options.competitors), many_rows=True)
    rows = load_rows(options.rows or "generated", options.count, options.join)
    peaks: list[dict[str, float]] = []

    def measure_peak() -> None:
        peak = in_a_process(measure_peaks, setting.checkpoint, setting.provider)
        peaks.append(need(peak, "matrix products"))
        print(f"matrix products {peaks[-1]}", flush=True)

    runs = in_rounds(options, run_once, setting, rows, tell=told, each_round=measure_peak)
    best = {
        key: max(peak[key] for peak in peaks if key in peak)
        for key in sorted({key for peak in peaks for key in peak if key.endswith("_flops")})
    }
    return write(options, setting, runs, runs[TRUTH][0].figures, best)


def write(
    options: Options,
    setting: Setting,
    runs: dict[str, list[Outcome[Timed]]],
    truth: Timed,
    peaks: dict[str, float],
    passes: int = 1,
) -> int:
    """Write the result of all runs; return the exit code."""
    flops = matrix_flops(setting.checkpoint)
    results = [summarise(name, own, truth.scores, peaks, flops) for name, own in runs.items()]
    return write_compared("throughput", options, setting, results, {
        "rows": len(truth.scores),
        "join": options.join,
        "tokens": truth.tokens,
        "rounds": options.rounds,
        "passes": passes,
        "timeout": options.timeout,
        "matrix_flops_per_token": flops,
        "matrix_products": peaks,
    })  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())

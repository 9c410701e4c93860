"""Rows a second and tokens a second of every competitor, on the same rows in the same run.

    python benchmarks/throughput.py --model random:gpt2 --rows FILE --count 256

Each round runs every competitor once, in a fresh process: it loads, scores a few rows to warm up,
and is timed over all rows, tokenisation included. Every competitor's scores are compared with
PyTorch's in fp32; one whose scores are off by more than its precision allows fails the run. Beside
them the machine's own matrix products are timed, at the model's shapes.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from competitors import COMPETITORS, TRUTH, Competitor, Pairs, Setting
from isolation import in_a_process
from matmul import measure_peaks
from suite import (
    add_competitors,
    add_options,
    add_rows,
    chosen,
    failure_of,
    in_rounds,
    need,
    parity_of,
    precision_of,
    set_up,
    write_compared,
)
from workload import Row, load_rows

WARM_UP = 4


def run_once(name: str, setting: Setting, rows: list[Row]) -> dict[str, Any]:
    """Load a competitor and time it over the rows, once."""
    start = time.perf_counter()
    competitor = COMPETITORS[name](setting)
    loaded = time.perf_counter()
    pairs = [row.pair for row in rows]
    by_length = sorted(pairs, key=lambda pair: len(pair[0]) + len(pair[1]))
    # Short and long rows: what is compiled or allocated for a size is so before the clock runs.
    competitor.score([*by_length[:WARM_UP], *by_length[-WARM_UP:]])
    return {"load_seconds": loaded - start} | timed(competitor, pairs)


def timed(competitor: Competitor, pairs: Pairs) -> dict[str, Any]:
    """Time a competitor over all pairs."""
    start = time.perf_counter()
    scored = competitor.score(pairs)
    return {
        "seconds": time.perf_counter() - start,
        "scores": scored.scores.tolist(),
        "tokens": scored.tokens,
        "padded_tokens": scored.padded_tokens,
    }


def summarise(
    name: str, runs: list[dict[str, Any]], truth: list[float], peaks: dict[str, float], flops: float
) -> dict[str, Any]:
    """Put the rounds of one competitor together."""
    if failure := failure_of(name, runs):
        return failure
    seconds = [run["seconds"] for run in runs]
    last = runs[-1]
    precision = precision_of(name)
    peak = peaks.get(f"{precision}_flops", peaks["fp32_flops"])
    rate = last["tokens"] / statistics.median(seconds)
    figures = {
        "name": name,
        "precision": precision,
        "tokens_per_second": round(rate, 1),
        "slowest": round(last["tokens"] / max(seconds), 1),
        "fastest": round(last["tokens"] / min(seconds), 1),
        "rows_per_second": round(len(last["scores"]) / statistics.median(seconds), 2),
        "padding_share": round(1 - last["tokens"] / last["padded_tokens"], 4),
        "share_of_peak": round(rate * flops / peak, 3),
        "load_seconds": round(statistics.median(run["load_seconds"] for run in runs), 2),
        "peak_gb": max(run["peak_gb"] for run in runs),
        "seconds": [round(value, 2) for value in seconds],
    }
    if "first_seconds" in last:
        figures["first_pass_tokens_per_second"] = round(last["tokens"] / last["first_seconds"], 1)
    return figures | parity_of(name, truth, runs)


def told(run: dict[str, Any]) -> dict[str, Any]:
    """A run without its scores."""
    return {key: value for key, value in run.items() if key != "scores"}


def matrix_flops(folder: Path) -> int:
    """Floating-point operations a token in matrix products with weights: 2 each, every layer."""
    config = json.loads((folder / "config.json").read_text())
    width, layers = config["n_embd"], config["n_layer"]
    return int(2 * layers * (4 * width**2 + 2 * width * (config["n_inner"] or 4 * width)))


def main() -> int:
    """Measure, print a line a run, and write `benchmarks/results/throughput-….json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    add_rows(parser)
    add_competitors(parser)
    args = parser.parse_args()
    setting, rows = set_up(args, chosen(args)), load_rows(args.rows, args.count, args.join)
    peaks: list[dict[str, Any]] = []

    def measure_peak() -> None:
        peak = in_a_process(measure_peaks, setting.checkpoint, setting.provider)
        peaks.append(need("fp32_flops", peak, "matrix products"))
        print(f"matrix products {peaks[-1]}", flush=True)

    runs = in_rounds(args, run_once, setting, rows, tell=told, each_round=measure_peak)
    best = {
        key: max(peak[key] for peak in peaks if key in peak)
        for key in sorted({key for peak in peaks for key in peak if key.endswith("_flops")})
    }
    return write(args, setting, runs, runs[TRUTH][0], best)


def write(
    args: argparse.Namespace,
    setting: Setting,
    runs: dict[str, list[dict[str, Any]]],
    truth: dict[str, Any],
    peaks: dict[str, float],
) -> int:
    """Write the result of all runs, as `write_compared` does."""
    flops = matrix_flops(setting.checkpoint)
    scores = truth["scores"]
    results = [summarise(name, own, scores, peaks, flops) for name, own in runs.items()]
    return write_compared("throughput", args, setting, results, {
        "rows": len(scores),
        "join": args.join,
        "tokens": truth["tokens"],
        "rounds": args.rounds,
        "passes": getattr(args, "passes", 1),
        "timeout": args.timeout,
        "matrix_flops_per_token": flops,
        "matrix_products": peaks,
    })  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())

"""What each choice is worth: tokens a second with one thing different, and all else as it is.

    python benchmarks/ablations.py --model random:gpt2-large --rows FILE --precision fp16

Each variant runs once a round in a fresh process over the same rows, and its scores are compared
with those of the engine as it is; they may differ by rounding alone. Variants of the graph are
exported first. `latency` is the median of one row of 170 tokens, in milliseconds.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from competitors import Setting, harmless_artifact
from harmless_export import export_checkpoint
from harmless_export.verify import LIMITS
from harmless_runtime.config import Precision, make_config
from harmless_runtime.model.artifact import is_artifact
from harmless_runtime.model.engine import load_engine
from isolation import in_a_process
from latency import exact_pair
from suite import (
    add_options,
    add_precision,
    add_rounds,
    add_rows,
    failure_of,
    need,
    set_up,
    write_compared,
)
from variants import AS_IT_IS, GRAPHS, patched, variants
from workload import Row, load_rows

ONE_ROW, ONE_ROW_RUNS = 170, 50
EXPORTS = 4  # at a time; each takes a little more memory than the weights in fp32


def artifact_of(graph: str, setting: Setting, precision: Precision) -> Path:
    """Export a graph of `GRAPHS`, once."""
    if not graph:
        return harmless_artifact(setting, precision)
    slug = "".join(c if c.isalnum() else "-" for c in graph)
    folder = setting.cache / f"{setting.checkpoint.name}-harmless-{precision}-{slug}"
    if not is_artifact(folder):
        with patched(GRAPHS[graph]):
            export_checkpoint(str(setting.checkpoint), folder, precision=precision, verify=False)
    return folder


def export_once(graph: str, setting: Setting, precision: Precision) -> dict[str, Any]:
    """Export in a process of its own."""
    return {"folder": str(artifact_of(graph, setting, precision))}


def run_once(
    name: str, setting: Setting, precision: Precision, rows: list[Row], one: tuple[str, str]
) -> dict[str, Any]:
    """Load a variant; time it over the rows, a second time for those whose plans are then made."""
    variant = variants(setting.provider)[name]
    folder = artifact_of(variant.graph, setting, precision)
    config = {"model": str(folder), "provider": setting.provider, "max_length": setting.max_length}
    with patched(variant.run):
        engine = load_engine(make_config(config | variant.config))
        encoded = engine.tokenizer.encode([row.pair for row in rows])
        engine.score(encoded[:8])
        sizes: list[int] = []
        start = time.perf_counter()
        scores = engine.score(encoded, lambda batch: sizes.append(batch.tokens))
        first = time.perf_counter() - start
        again = time_of(lambda: engine.score(encoded))
        single = engine.tokenizer.encode([one])
        latencies = [time_of(lambda: engine.score(single)) for _ in range(ONE_ROW_RUNS)]
    tokens = sum(len(row.ids) for row in encoded)
    return {
        "scores": scores.tolist(),
        "tokens_per_second": tokens / again,
        "first_tokens_per_second": tokens / first,
        "padding_share": 1 - tokens / sum(sizes),
        "shapes": engine.session.times.shapes,
        "planning_seconds": engine.session.times.planning_seconds,
        "latency_ms": 1000 * statistics.median(latencies),
    }


def time_of(call: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def summarise(name: str, runs: list[dict[str, Any]], truth: list[float]) -> dict[str, Any]:
    """Put the rounds of one variant together, its scores held against those of the engine."""
    if failure := failure_of(name, runs):
        return failure
    middle = {
        key: round(statistics.median(run[key] for run in runs), 4)
        for key in runs[0]
        if key not in ("scores", "peak_gb")
    }
    off = max(np.abs(np.subtract(run["scores"], truth)).max() for run in runs) / np.std(truth)
    return {"name": name} | middle | {"largest_difference": float(off)}


def main() -> int:
    """Measure, print a line a run, and write `benchmarks/results/ablations-PRECISION-….json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    add_rows(parser)
    add_rounds(parser)
    add_precision(parser)
    parser.add_argument("--variants", nargs="+", help="the names of some, not all")
    parser.add_argument("--timeout", type=float, default=120, help="seconds for one run")
    args = parser.parse_args()
    setting = set_up(args, [f"harmless-{args.precision}"])
    rows = load_rows(args.rows, args.count, args.join)
    one = exact_pair(AutoTokenizer.from_pretrained(setting.checkpoint), ONE_ROW, 0)
    all_variants = variants(args.provider)
    names = [AS_IT_IS, *(n for n in args.variants or all_variants if n != AS_IT_IS)]
    graphs = {all_variants[name].graph for name in names} - {""}
    with ThreadPoolExecutor(EXPORTS) as pool:
        list(pool.map(lambda g: in_a_process(export_once, g, setting, args.precision), graphs))
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    wrong = 0
    for _ in range(args.rounds):
        for name, own in runs.items():
            run = in_a_process(
                run_once, name, setting, args.precision, rows, one, timeout=args.timeout
            )
            own.append(need("scores", run, name) if name == AS_IT_IS else run)
            print(f"{name}: { {k: v for k, v in run.items() if k != 'scores'} }", flush=True)
            wrong = write(args, setting, runs)
    return wrong


def write(args: argparse.Namespace, setting: Setting, runs: dict[str, list[dict[str, Any]]]) -> int:
    """Write the result of all runs so far; name on stderr whose scores are wrong."""
    truth = runs[AS_IT_IS][0]["scores"]
    results = [summarise(name, own, truth) for name, own in runs.items() if own]
    limit = LIMITS[args.precision]
    for result in results:
        if "largest_difference" in result:
            result["right"] = result["largest_difference"] <= limit
    figures = {"precision": args.precision, "rows": len(truth), "limit": limit}
    return write_compared(f"ablations-{args.precision}", args, setting, results, figures)


if __name__ == "__main__":
    sys.exit(main())

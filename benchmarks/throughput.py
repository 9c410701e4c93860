"""Rows a second and tokens a second of every competitor, on the same rows in the same run.

    python benchmarks/throughput.py --model random:gpt2 --rows FILE --count 256

Each round runs every competitor once, in a fresh process: it loads, scores a few rows to warm up,
and is timed over all rows, tokenisation included. Rounds interleave the competitors, so that a
machine that drifts hits all alike. Every competitor's scores are compared with PyTorch's in fp32;
one whose scores are off by more than its precision allows fails the run. Beside them the machine's
own matrix products are timed, at the model's shapes.
"""

import argparse
import json
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from competitors import COMPETITORS, TRUTH, Setting
from harmless_export.verify import LIMITS, compare
from isolation import describe_machine, in_a_process
from matmul import measure_peaks
from workload import Row, checkpoint, load_rows

HERE = Path(__file__).parent
WARM_UP = 4


def build(name: str, setting: Setting) -> dict[str, Any]:
    """Make a competitor, and with it the export that it keeps."""
    COMPETITORS[name](setting)
    return {}


def run_once(name: str, setting: Setting, rows: list[Row]) -> dict[str, Any]:
    """Load a competitor and time it over the rows, once."""
    start = time.perf_counter()
    competitor = COMPETITORS[name](setting)
    loaded = time.perf_counter()
    pairs = [row.pair for row in rows]
    by_length = sorted(pairs, key=lambda pair: len(pair[0]) + len(pair[1]))
    # Short and long rows: what is compiled or allocated for a size is so before the clock runs.
    competitor.score([*by_length[:WARM_UP], *by_length[-WARM_UP:]])
    begin = time.perf_counter()
    scored = competitor.score(pairs)
    seconds = time.perf_counter() - begin
    return {
        "load_seconds": loaded - start,
        "seconds": seconds,
        "scores": scored.scores.tolist(),
        "tokens": scored.tokens,
        "padded_tokens": scored.padded_tokens,
    }


def summarise(
    name: str, runs: list[dict[str, Any]], truth: list[float], peaks: dict[str, float], flops: float
) -> dict[str, Any]:
    """Put the rounds of one competitor together."""
    for run in runs:
        if "missing" in run or "failed" in run:
            return {"name": name} | run
    seconds = [run["seconds"] for run in runs]
    last = runs[-1]
    precision = precision_of(name)
    parity = compare(
        name, np.array(truth, np.float32), np.array(last["scores"], np.float32), LIMITS[precision]
    )
    peak = peaks.get(f"{precision}_flops", peaks["fp32_flops"])
    rate = last["tokens"] / statistics.median(seconds)
    return {
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
        "parity": msgspec.structs.asdict(parity),
        "right": parity.relative <= parity.limit,
    }


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
    add_workload_options(parser)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    setting, rows = set_up(args)
    names = [TRUTH, *(name for name in args.only or COMPETITORS if name != TRUTH)]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    peaks: list[dict[str, Any]] = []
    for round_number in range(args.rounds):
        peaks.append(in_a_process(measure_peaks, setting.checkpoint, setting.provider))
        print(f"round {round_number + 1}: matrix products {peaks[-1]}", flush=True)
        for name in names:
            run = in_a_process(run_once, name, setting, rows)
            runs[name].append(run)
            told = {k: v for k, v in run.items() if k != "scores"}
            print(f"round {round_number + 1}: {name} {told}", flush=True)
    truth = runs[TRUTH][0]["scores"]
    best = {
        key: max(peak[key] for peak in peaks if key in peak)
        for key in sorted({key for peak in peaks for key in peak if key.endswith("_flops")})
    }
    flops = matrix_flops(setting.checkpoint)
    results = [summarise(name, runs[name], truth, best, flops) for name in names]
    write_result("throughput", args, setting, {
        "rows": len(rows),
        "tokens": runs[TRUTH][0]["tokens"],
        "rounds": args.rounds,
        "matrix_flops_per_token": flops,
        "matrix_products": best,
        "results": results,
    })  # fmt: skip
    wrong = [r["name"] for r in results if not r.get("right", True)]
    if wrong:
        print(f"wrong scores: {', '.join(wrong)}", file=sys.stderr)
    return bool(wrong)


def precision_of(name: str) -> str:
    """The precision that a competitor's name tells."""
    return next((p for p in ("bf16", "fp16", "int8") if p in name), "fp32")


def add_workload_options(parser: argparse.ArgumentParser) -> None:
    """Add what every benchmark takes: model, rows, provider, where caches go."""
    parser.add_argument("--model", default="random:gpt2", help="a folder, or random:gpt2[-large]")
    parser.add_argument("--tokenizer", help="tokenizer folder for a random model (else bytes)")
    parser.add_argument("--rows", default="generated", help="a JSONL file, or `generated`")
    parser.add_argument("--count", type=int, default=64, help="how many rows")
    parser.add_argument("--max-length", type=int, default=1024, help="tokens")
    parser.add_argument("--provider", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", nargs="+", choices=list(COMPETITORS), help="competitors to run")
    parser.add_argument("--label", default="cpu", help="names the machine in the result's file")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--cache", type=Path, default=HERE.parent / "build/benchmarks")


def set_up(args: argparse.Namespace) -> tuple[Setting, list[Row]]:
    """Make the checkpoint and the artifacts, outside of every clock, and load the rows."""
    args.cache.mkdir(parents=True, exist_ok=True)
    folder = checkpoint(args.model, args.tokenizer, args.cache)
    setting = Setting(folder, args.cache, args.provider, args.max_length)
    for name in args.only or COMPETITORS:
        # What exports does so now: neither its time nor its memory is the scorer's.
        if name.startswith(("harmless", "optimum")):
            in_a_process(build, name, setting)
    return setting, load_rows(args.rows, args.count)


def write_result(
    kind: str, args: argparse.Namespace, setting: Setting, figures: dict[str, Any]
) -> None:
    """Write one result, with all that is needed to run it again."""
    today = datetime.now(UTC).date().isoformat()
    model = args.model.replace("random:", "")
    result = {
        "kind": kind,
        "date": today,
        "model": args.model,
        "tokenizer": Path(args.tokenizer).name if args.tokenizer else "bytes",
        "source": Path(args.rows).name,
        "max_length": args.max_length,
        "provider": setting.provider,
        "machine": describe_machine(setting.provider),
    } | figures
    path = args.results / f"{kind}-{Path(model).name}-{args.label}-{today}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=2).replace(f"{setting.cache}/", "")
    path.write_text(text + "\n")
    print(path)


if __name__ == "__main__":
    sys.exit(main())

"""The engine's settings on a CPU, each over a range: the batch token budget, and the threads.

    python benchmarks/sweep.py --model random:gpt2 --rows FILE --precision fp32

Each setting runs once a round in a fresh process, over the same rows, the other at its default.
"""

import argparse
import statistics
import time
from typing import Any
from unittest.mock import patch

from competitors import HarmlessScorer, Setting
from harmless_runtime.model import batches as batching
from harmless_runtime.model import session
from harmless_runtime.model.cores import usable_cores
from isolation import in_a_process
from suite import add_options, add_precision, add_rounds, add_rows, need, set_up, write_result
from workload import Row, load_rows

BUDGETS = (128, 256, 384, 512, 768, 1024, 2048, 4096)
THREADS = (1, 2, 3, 4)


def run_once(
    setting: Setting, precision: Any, rows: list[Row], budget: int, threads: int
) -> dict[str, Any]:
    """Load the engine with these settings, and time it over the rows."""
    with (
        patch.object(batching, "_CPU_BATCH_TOKENS", budget),
        patch.object(session, "usable_cores", return_value=threads),
    ):
        scorer = HarmlessScorer(setting, precision)
    pairs = [row.pair for row in rows]
    scorer.score(pairs[:8])
    start = time.perf_counter()
    scored = scorer.score(pairs)
    seconds = time.perf_counter() - start
    return {
        "tokens_per_second": scored.tokens / seconds,
        "padding_share": 1 - scored.tokens / scored.padded_tokens,
    }


def main() -> None:
    """Measure, print, and write `benchmarks/results/sweep-PRECISION-….json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    add_rows(parser)
    add_rounds(parser)
    add_precision(parser)
    args = parser.parse_args()
    setting = set_up(args, [f"harmless-{args.precision}"])
    rows = load_rows(args.rows, args.count, args.join)
    default, cores = batching._CPU_BATCH_TOKENS, usable_cores()
    settings = [(budget, cores) for budget in BUDGETS]
    settings += [(default, threads) for threads in THREADS if threads != cores]
    runs: dict[tuple[int, int], list[dict[str, Any]]] = {chosen: [] for chosen in settings}
    for _ in range(args.rounds):
        for chosen in settings:
            run = in_a_process(run_once, setting, args.precision, rows, *chosen)
            runs[chosen].append(need("tokens_per_second", run, f"{chosen}"))
            print(f"batch tokens {chosen[0]}, threads {chosen[1]}: {run}", flush=True)
    results = [
        {
            "batch_tokens": budget,
            "threads": threads,
            "tokens_per_second": round(
                statistics.median(run["tokens_per_second"] for run in runs[budget, threads])
            ),
            "by_round": [round(run["tokens_per_second"]) for run in runs[budget, threads]],
            "padding_share": round(runs[budget, threads][0]["padding_share"], 4),
            "peak_gb": max(run["peak_gb"] for run in runs[budget, threads]),
        }
        for budget, threads in settings
    ]
    figures = {"precision": args.precision, "rows": len(rows), "default": [default, cores]}
    write_result(f"sweep-{args.precision}", args, setting, figures | {"results": results})


if __name__ == "__main__":
    main()

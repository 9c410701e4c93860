"""How long one row, and eight rows, take with every competitor, at four lengths, in the same run.

    python benchmarks/latency.py --model random:gpt2

A call takes texts and returns scores, tokenisation included. Rows are cut to the exact length by
`max_length`. Every competitor runs in a process of its own, and every cell is repeated for some
seconds after a warm-up; scores are compared with PyTorch's in fp32.
"""

import argparse
import sys
import time
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from competitors import COMPETITORS, TRUTH, Setting
from harmless_export.verify import LIMITS, compare
from isolation import in_a_process
from throughput import add_workload_options, precision_of, set_up, write_result
from workload import Row

LENGTHS = (64, 170, 512, 1024)
BATCHES = (1, 8)
WARM_UP = 2
QUANTILES = (50, 90, 99)


def run_cells(name: str, setting: Setting, rows: list[Row], seconds: float) -> dict[str, Any]:
    """Time one competitor in every cell.

    Args:
        name: of the competitor.
        setting: what it is built from.
        rows: at least 8, each longer than any of the lengths.
        seconds: how long a cell is repeated, at least 5 times and at most 200.
    """
    cells = []
    scores: list[float] = []
    for length in LENGTHS:
        competitor = COMPETITORS[name](replace(setting, max_length=length))
        for batch in BATCHES:
            pairs = [row.pair for row in rows[:batch]]
            for _ in range(WARM_UP):
                scored = competitor.score(pairs)
            if scored.tokens != batch * length:
                raise ValueError(f"{scored.tokens} tokens in {batch} rows of {length}")
            times: list[float] = []
            while len(times) < 5 or (sum(times) < seconds and len(times) < 200):
                start = time.perf_counter()
                scored = competitor.score(pairs)
                times.append(time.perf_counter() - start)
            scores += scored.scores.tolist()
            quantiles = np.percentile(times, QUANTILES) * 1000
            cells.append(
                {"rows": batch, "length": length, "runs": len(times)}
                | {f"p{q}_ms": round(v, 2) for q, v in zip(QUANTILES, quantiles, strict=True)}
            )
    return {"cells": cells, "scores": scores}


def main() -> int:
    """Measure, print a line a competitor, and write `benchmarks/results/latency-….json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_workload_options(parser)
    parser.add_argument("--seconds", type=float, default=5, help="a cell's time")
    args = parser.parse_args()
    setting, found = set_up(args)
    # Longer than any cell, each part by itself, whatever the tokenizer makes of the words.
    text = " ".join(f"{row.instruction} {row.output}" for row in found)
    words = text.split()
    rows = [
        Row(" ".join(words[i::8][:2000] * 2), " ".join(words[i + 1 :: 8][:2000] * 2))
        for i in range(max(BATCHES))
    ]
    results: list[dict[str, Any]] = []
    truth: list[float] = []
    for name in [TRUTH, *(name for name in args.only or COMPETITORS if name != TRUTH)]:
        result = in_a_process(run_cells, name, setting, rows, args.seconds)
        if "scores" in result:
            scores = result.pop("scores")
            truth = truth or scores
            precision = precision_of(name)
            parity = compare(
                name,
                np.array(truth, np.float32),
                np.array(scores, np.float32),
                LIMITS[precision],
            )
            result |= {
                "precision": precision,
                "parity": msgspec.structs.asdict(parity),
                "right": parity.relative <= parity.limit,
            }
        results.append({"name": name} | result)
        print(results[-1], flush=True)
    write_result("latency", args, setting, {"seconds_a_cell": args.seconds, "results": results})
    return any(not result.get("right", True) for result in results)


if __name__ == "__main__":
    sys.exit(main())

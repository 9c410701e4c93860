"""How far scores are from PyTorch's in fp32, on every text of a file of chosen and rejected pairs.

    python benchmarks/parity.py --pairs hh_harmless_base_test.jsonl.gz --count 2312

Each competitor scores every text once, in a process of its own. Beside the differences, the pairs
are counted whose order is not PyTorch's: those that an error in the scores would turn around.
"""

import argparse
import sys
from typing import Any

import numpy as np

from competitors import COMPETITORS, TRUTH, Setting
from suite import (
    add_competitors,
    add_options,
    chosen,
    failure_of,
    in_rounds,
    parity_of,
    precision_of,
    set_up,
    write_compared,
)
from workload import Row, load_pairs


def run_once(name: str, setting: Setting, rows: list[Row]) -> dict[str, Any]:
    """Load a competitor and score every row."""
    scored = COMPETITORS[name](setting).score([row.pair for row in rows])
    return {"scores": scored.scores.tolist(), "tokens": scored.tokens}


def summarise(name: str, runs: list[dict[str, Any]], truth: list[float]) -> dict[str, Any]:
    """Compare one competitor's scores with the truth; chosen and rejected rows alternate."""
    if failure := failure_of(name, runs):
        return failure
    margins = [np.array(scores).reshape(-1, 2) @ [1, -1] for scores in (truth, runs[0]["scores"])]
    return {
        "name": name,
        "precision": precision_of(name),
        "turned_pairs": int((np.sign(margins[0]) != np.sign(margins[1])).sum()),
    } | parity_of(name, truth, runs)


def main() -> int:
    """Measure, print a line a competitor, and write `benchmarks/results/parity-….json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    add_competitors(parser)
    parser.add_argument("--pairs", required=True, help="a file like hh-rlhf's, gzipped or not")
    parser.add_argument("--count", type=int, default=64, help="how many pairs")
    args = parser.parse_args()
    args.rounds = 1
    setting = set_up(args, chosen(args))
    pairs = load_pairs(args.pairs, args.count)
    rows = [row for pair in pairs for row in pair]
    runs = in_rounds(args, run_once, setting, rows, tell=lambda run: f"{run['tokens']:,} tokens")
    return write(args, setting, runs, runs[TRUTH][0]["scores"])


def write(
    args: argparse.Namespace,
    setting: Setting,
    runs: dict[str, list[dict[str, Any]]],
    truth: list[float],
) -> int:
    """Write the result of all runs, as `write_compared` does."""
    results = [summarise(name, own, truth) for name, own in runs.items()]
    return write_compared("parity", args, setting, results, {"pairs": len(truth) // 2})


if __name__ == "__main__":
    sys.exit(main())

"""Measure how far scores are from PyTorch's in fp32, on all texts of chosen and rejected pairs.

    python benchmarks/parity.py --pairs hh_harmless_base_test.jsonl.gz --count 2312

Each competitor scores every text once, in a process of its own. Besides the differences, the pairs
are counted that its scores put in another order than PyTorch's, and the texts that are kept by only
one of the two if each drops the tenth of the texts that it scores lowest.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from suite.competitors import COMPETITORS, TRUTH
from suite.files import write_compared
from suite.isolation import Outcome
from suite.options import Options, add_competitors, parser_for, read_options
from suite.rounds import (
    WithScores,
    first_failure,
    in_rounds,
    parity_of,
    precision_of,
    set_up,
)
from suite.scorers import Setting
from suite.workload import Row, load_pairs

# The share of texts that people might drop.
DROPPED = 0.1


@dataclass(frozen=True)
class Scores:
    """The scores of all rows, and the number of their tokens."""

    scores: list[float]
    tokens: int


def run_once(name: str, setting: Setting, rows: list[Row]) -> Scores:
    """Load a competitor, and score every row."""
    scored = COMPETITORS[name](setting).score([row.pair for row in rows])
    return Scores(scored.scores.tolist(), scored.tokens)


def summarise(name: str, runs: Sequence[Outcome[WithScores]], truth: list[float]) -> dict[str, Any]:
    """Compare one competitor's scores with the truth. Chosen and rejected rows alternate."""
    if failure := first_failure(runs):
        return failure.as_result(name)
    own = runs[0].figures.scores
    kept = [np.array(scores) >= np.quantile(scores, DROPPED) for scores in (truth, own)]
    margins = [np.array(scores).reshape(-1, 2) @ [1, -1] for scores in (truth, own)]
    return {
        "name": name,
        "precision": precision_of(name),
        "turned_pairs": int((np.sign(margins[0]) != np.sign(margins[1])).sum()),
        "changed_side": float((kept[0] != kept[1]).mean()),
    } | parity_of(name, truth, runs)


def main() -> int:
    """Measure, print a line for each competitor, and write `benchmarks/results/parity-….json`."""
    parser = parser_for(__doc__)
    add_competitors(parser)
    parser.add_argument("--pairs", required=True, help="a file like hh-rlhf's, gzipped or not")
    parser.add_argument("--count", type=int, default=64, help="how many pairs")
    args = parser.parse_args()
    options = read_options(args)
    setting = set_up(options, options.competitors)
    rows = [row for pair in load_pairs(args.pairs, options.count) for row in pair]
    runs = in_rounds(options, run_once, setting, rows, tell=lambda run: f"{run.tokens:,} tokens")
    return write(options, setting, runs, runs[TRUTH][0].figures.scores)


def write(
    options: Options,
    setting: Setting,
    runs: Mapping[str, Sequence[Outcome[WithScores]]],
    truth: list[float],
) -> int:
    """Write the result of all runs; return the exit code."""
    results = [summarise(name, own, truth) for name, own in runs.items()]
    return write_compared("parity", options, setting, results, {"pairs": len(truth) // 2})


if __name__ == "__main__":
    sys.exit(main())

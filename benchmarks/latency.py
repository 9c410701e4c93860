"""Measure how long a request takes, of one row and of 8, at several lengths, for every competitor.

    python benchmarks/latency.py --model random:gpt2

Each round runs every competitor in a fresh process, which scores each case again and again,
tokenisation included. The scores of all cases are compared with PyTorch's in fp32. If scores are
off by more than the competitor's precision allows, the benchmark fails.
"""

import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from harmless_runtime.rows.prompt import question_and_answer
from suite.competitors import COMPETITORS, TRUTH
from suite.files import write_compared
from suite.isolation import Outcome
from suite.options import Options, add_competitors, add_rounds, parser_for, read_options
from suite.rounds import first_failure, in_rounds, parity_of, precision_of, set_up
from suite.scorers import Competitor, Pairs, Setting
from suite.workload import generated_text

LENGTHS = (64, 170, 512, 1024)
ROWS = (1, 8)
# With fewer samples, the 99th percentile is just the slowest one. For the 90th a tenth is enough.
ENOUGH = 100

# A case is a number of rows, and of tokens in each.
Case = tuple[int, int]


@dataclass(frozen=True)
class Timed:
    """The seconds of every sample of each case, and the scores of all cases."""

    times: dict[Case, list[float]]
    scores: list[float]


def make_cases(setting: Setting) -> dict[Case, Pairs]:
    """Make the pairs of each case, with exactly so many tokens. No two pairs are equal."""
    tokenizer = AutoTokenizer.from_pretrained(setting.checkpoint)
    return {
        (rows, tokens): [exact_pair(tokenizer, tokens, seed) for seed in range(rows)]
        for rows in ROWS
        for tokens in LENGTHS
        if tokens <= setting.max_length
    }


def exact_pair(tokenizer: Any, tokens: int, seed: int) -> tuple[str, str]:
    """Return a pair of random words that has exactly `tokens` tokens.

    The answer is a long text, cut to as few characters as are needed. One more character is hardly
    ever more than one more token. If it is, the text of another seed is cut.
    """
    question = question_and_answer("Say some words.", "", "")[0]
    wanted = tokens - len(tokenizer(question)["input_ids"])
    if wanted < 1:
        raise ValueError(f"{tokens} tokens are fewer than the question's")
    while True:
        text = generated_text(random.Random(seed), 2 * tokens)
        low, high = 0, len(text)
        while low < high:
            middle = (low + high) // 2
            if len(tokenizer(text[:middle])["input_ids"]) < wanted:
                low = middle + 1
            else:
                high = middle
        if len(tokenizer(text[:low])["input_ids"]) == wanted:
            return question, text[:low]
        seed += 1000


def run_once(name: str, setting: Setting, cases: dict[Case, Pairs], seconds: float) -> Timed:
    """Load a competitor, and time each case."""
    return time_cases(COMPETITORS[name](setting), cases, seconds)


def time_cases(competitor: Competitor, cases: dict[Case, Pairs], seconds: float) -> Timed:
    """Time each case for so many seconds, and at least twice."""
    times: dict[Case, list[float]] = {}
    scores: list[float] = []
    for case, pairs in cases.items():
        scores += competitor.score(pairs).scores.tolist()
        times[case] = []
        while len(times[case]) < 2 or sum(times[case]) < seconds:
            start = time.perf_counter()
            competitor.score(pairs)
            times[case].append(time.perf_counter() - start)
    return Timed(times, scores)


def summarise(name: str, runs: Sequence[Outcome[Timed]], truth: list[float]) -> dict[str, Any]:
    """Put the rounds of one competitor together: percentiles in milliseconds."""
    if failure := first_failure(runs):
        return failure.as_result(name)
    cases = []
    for rows, tokens in runs[0].figures.times:
        rounds = [np.array(run.figures.times[rows, tokens]) * 1000 for run in runs]
        together = np.concatenate(rounds)
        p50, p90, p99 = np.percentile(together, [50, 90, 99]).round(3).tolist()
        cases.append({
            "rows": rows,
            "tokens": tokens,
            "samples": len(together),
            "p50_ms": p50,
            "p90_ms": p90 if len(together) >= ENOUGH / 10 else None,
            "p99_ms": p99 if len(together) >= ENOUGH else None,
            "slowest_ms": round(float(together.max()), 3),
            "p50_ms_by_round": [round(float(np.median(times)), 3) for times in rounds],
        })  # fmt: skip
    figures = {"name": name, "precision": precision_of(name), "cases": cases}
    return figures | parity_of(name, truth, runs)


def medians(run: Timed) -> dict[Case, str]:
    """Return the median time of each case."""
    return {case: f"{np.median(times):.4f} s" for case, times in run.times.items()}


def main() -> int:
    """Measure, print a line for each run, and write `benchmarks/results/latency-….json`."""
    parser = parser_for(__doc__)
    add_competitors(parser)
    add_rounds(parser)
    parser.add_argument("--seconds", type=float, default=5, help="for each case and round")
    args = parser.parse_args()
    options = read_options(args)
    setting = set_up(options, options.competitors)
    runs = in_rounds(options, run_once, setting, make_cases(setting), args.seconds, tell=medians)
    return write(options, setting, runs, runs[TRUTH][0].figures.scores)


def write(
    options: Options,
    setting: Setting,
    runs: dict[str, list[Outcome[Timed]]],
    truth: list[float],
) -> int:
    """Write the result of all runs; return the exit code."""
    results = [summarise(name, own, truth) for name, own in runs.items()]
    return write_compared("latency", options, setting, results, {"rounds": options.rounds})


if __name__ == "__main__":
    sys.exit(main())

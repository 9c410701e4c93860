"""How long one request takes, of one row and of 8, at several lengths, for every competitor.

    python benchmarks/latency.py --model random:gpt2

Each round runs every competitor in a fresh process, which scores each case again and again,
tokenisation included. The scores of all cases are compared with PyTorch's in fp32; one whose scores
are off by more than its precision allows fails the run.
"""

import argparse
import random
import sys
import time
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from competitors import COMPETITORS, TRUTH, Competitor, Pairs, Setting
from harmless_runtime.rows.prompt import question_and_answer
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
from workload import generated_text

LENGTHS = (64, 170, 512, 1024)
ROWS = (1, 8)
# From so many samples on, the 99th percentile is not just the slowest; the 90th from a tenth.
ENOUGH = 100


def make_cases(setting: Setting) -> dict[tuple[int, int], Pairs]:
    """Make pairs of exactly so many tokens: `cases[rows, tokens]`; no two pairs are alike."""
    tokenizer = AutoTokenizer.from_pretrained(setting.checkpoint)
    return {
        (rows, tokens): [exact_pair(tokenizer, tokens, seed) for seed in range(rows)]
        for rows in ROWS
        for tokens in LENGTHS
        if tokens <= setting.max_length
    }


def exact_pair(tokenizer: Any, tokens: int, seed: int) -> tuple[str, str]:
    """Return a pair of random words that the tokenizer makes exactly `tokens` tokens of.

    The answer is the first cut of a long text that is long enough: a character more is hardly ever
    more than a token more. Where it is, the text of another seed is cut.
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


def run_once(
    name: str, setting: Setting, cases: dict[tuple[int, int], Pairs], seconds: float
) -> dict[str, Any]:
    """Load a competitor, and time each case."""
    return time_cases(COMPETITORS[name](setting), cases, seconds)


def time_cases(
    competitor: Competitor, cases: dict[tuple[int, int], Pairs], seconds: float
) -> dict[str, Any]:
    """Time each case for so many seconds, and at least twice."""
    times: dict[tuple[int, int], list[float]] = {}
    scores: list[float] = []
    for case, pairs in cases.items():
        scores += competitor.score(pairs).scores.tolist()
        times[case] = []
        while len(times[case]) < 2 or sum(times[case]) < seconds:
            start = time.perf_counter()
            competitor.score(pairs)
            times[case].append(time.perf_counter() - start)
    return {"times": times, "scores": scores}


def summarise(name: str, runs: list[dict[str, Any]], truth: list[float]) -> dict[str, Any]:
    """Put the rounds of one competitor together: percentiles in milliseconds."""
    if failure := failure_of(name, runs):
        return failure
    cases = []
    for rows, tokens in runs[0]["times"]:
        rounds = [np.array(run["times"][rows, tokens]) * 1000 for run in runs]
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


def medians(run: dict[str, Any]) -> dict[tuple[int, int], str]:
    """The middle time of each case."""
    return {case: f"{np.median(times):.4f} s" for case, times in run["times"].items()}


def main() -> int:
    """Measure, print a line a run, and write `benchmarks/results/latency-….json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    add_competitors(parser)
    parser.add_argument("--seconds", type=float, default=5, help="for each case and round")
    args = parser.parse_args()
    setting = set_up(args, chosen(args))
    runs = in_rounds(args, run_once, setting, make_cases(setting), args.seconds, tell=medians)
    return write(args, setting, runs, runs[TRUTH][0]["scores"])


def write(
    args: argparse.Namespace,
    setting: Setting,
    runs: dict[str, list[dict[str, Any]]],
    truth: list[float],
) -> int:
    """Write the result of all runs, as `write_compared` does."""
    results = [summarise(name, own, truth) for name, own in runs.items()]
    return write_compared("latency", args, setting, results, {"rounds": args.rounds})


if __name__ == "__main__":
    sys.exit(main())

"""Throughput, latency and parity of every competitor, each loaded only once.

    python benchmarks/compare.py --provider cuda --model random:gpt2-large --rows FILE

For a GPU, where loading a model takes longer than measuring it. Every competitor runs in a fresh
process over the chosen and rejected texts of a file like hh-rlhf's, over longer rows made of them,
and over single requests. A first pass, in which kernels are planned and compiled, is told apart
from the passes that are timed after it. The results are those of throughput.py (twice, the longer
rows under `LABEL-long`), latency.py and parity.py, and are written anew after each competitor.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from typing import Any

import latency
import parity
import throughput
from competitors import COMPETITORS, Pairs, Setting
from isolation import in_a_process
from matmul import measure_peaks
from suite import add_options, need, set_up
from workload import load_pairs, load_rows

# With planned batches, a fraction of the time that rows in file order take in fp32.
TRUTH = "pytorch-fp32"
NAMES = (
    "pytorch-bf16-original", "pytorch-bf16", "compile-bf16", "harmless-fp16", "harmless-bf16",
)  # fmt: skip
JOIN = 4


@dataclass(frozen=True)
class Work:
    """What is scored: all texts, longer ones, and requests by rows and tokens."""

    texts: Pairs
    long: Pairs
    cases: dict[tuple[int, int], Pairs]


def find_truth(setting: Setting, work: Work) -> dict[str, Any]:
    """The scores of everything in fp32."""
    competitor = COMPETITORS[TRUTH](setting)
    requests = [pair for pairs in work.cases.values() for pair in pairs]
    return {
        "texts": throughput.timed(competitor, work.texts),
        "long": throughput.timed(competitor, work.long),
        "cases": throughput.timed(competitor, requests),
    }


def measure(name: str, setting: Setting, work: Work, passes: int, seconds: float) -> dict[str, Any]:
    """Load a competitor, and measure all there is."""
    start = time.perf_counter()
    competitor = COMPETITORS[name](setting)
    load_seconds = time.perf_counter() - start

    def time_passes(pairs: Pairs) -> list[dict[str, Any]]:
        first, *runs = (throughput.timed(competitor, pairs) for _ in range(1 + passes))
        told = {"load_seconds": load_seconds, "first_seconds": first["seconds"]}
        return [run | told for run in runs]

    return {
        "texts": time_passes(work.texts),
        "long": time_passes(work.long),
        "cases": [latency.time_cases(competitor, work.cases, seconds)],
    }


def main() -> int:
    """Measure, print a line a competitor, and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    parser.add_argument("--rows", required=True, help="a file like hh-rlhf's, gzipped or not")
    parser.add_argument("--count", type=int, default=2312, help="how many pairs")
    parser.add_argument("--long-count", type=int, default=512, help="how many longer rows")
    parser.add_argument("--only", nargs="+", choices=list(COMPETITORS), default=NAMES)
    parser.add_argument("--passes", type=int, default=2, help="timed, after the first")
    parser.add_argument("--seconds", type=float, default=1, help="for each kind of request")
    parser.add_argument("--timeout", type=float, default=240, help="seconds for one competitor")
    args = parser.parse_args()
    args.rounds, args.join = 1, 1
    setting = set_up(args, args.only)
    rows = [row for pair in load_pairs(args.rows, args.count) for row in pair]
    long_rows = load_rows(args.rows, args.long_count, JOIN)
    cases = latency.make_cases(setting)
    work = Work([row.pair for row in rows], [row.pair for row in long_rows], cases)
    peaks = need(
        "fp32_flops", in_a_process(measure_peaks, setting.checkpoint, args.provider), "peaks"
    )
    print(f"matrix products {peaks}", flush=True)
    truth = need("texts", in_a_process(find_truth, setting, work, timeout=args.timeout), TRUTH)
    print(f"{TRUTH}: {truth['texts']['seconds']:.1f} s for all texts", flush=True)
    long_args = argparse.Namespace(**vars(args) | {"label": f"{args.label}-long", "join": JOIN})
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {}
    wrong = 0
    for name in args.only:
        run = in_a_process(
            measure, name, setting, work, args.passes, args.seconds, timeout=args.timeout
        )
        print(f"{name}: {told(run)}", flush=True)
        for part in ("texts", "long", "cases"):
            own = [one | {"peak_gb": run["peak_gb"]} for one in run[part]] if part in run else [run]
            runs.setdefault(part, {})[name] = own
        wrong = throughput.write(args, setting, runs["texts"], truth["texts"], peaks)
        wrong |= throughput.write(long_args, setting, runs["long"], truth["long"], peaks)
        wrong |= latency.write(args, setting, runs["cases"], truth["cases"]["scores"])
        once = {name: own[:1] for name, own in runs["texts"].items()}
        wrong |= parity.write(args, setting, once, truth["texts"]["scores"])
    return wrong


def told(run: dict[str, Any]) -> str:
    """A run in a line."""
    if "texts" not in run:
        return str(run)
    rates = [
        f"{one['tokens'] / one['seconds']:,.0f} tokens/s" for one in (*run["texts"], *run["long"])
    ]
    return f"{', '.join(rates)}, {latency.medians(run['cases'][0])}"


if __name__ == "__main__":
    sys.exit(main())

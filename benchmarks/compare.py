"""Measure throughput, latency and parity of every competitor, each loaded only once.

    python benchmarks/compare.py --provider cuda --model random:gpt2-large --rows FILE

This is for a GPU, where loading a model takes longer than measuring it. Every competitor runs in a
fresh process over the chosen and rejected texts of a file like hh-rlhf's, over longer rows made of
them, and over single requests. A first pass, in which kernels are planned and compiled, is reported
apart from the passes after it, which are timed. The results are those of throughput.py (twice, the
longer rows under `LABEL-long`), latency.py and parity.py. They are written again after each
competitor.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import latency
import parity
import throughput
from suite.competitors import COMPETITORS
from suite.isolation import Outcome, in_a_process
from suite.matmul import measure_peaks
from suite.options import parser_for, read_options
from suite.rounds import need, set_up
from suite.scorers import Pairs, Setting
from suite.workload import load_pairs, load_rows

# With planned batches it takes a fraction of the time of fp32 in file order.
TRUTH = "pytorch-fp32"
NAMES = (
    "pytorch-bf16-original", "pytorch-bf16", "compile-bf16", "harmless-fp16", "harmless-bf16",
)  # fmt: skip
JOIN = 4


@dataclass(frozen=True)
class Work:
    """What is scored: all texts, longer ones, and single requests."""

    texts: Pairs
    long: Pairs
    cases: dict[latency.Case, Pairs]


@dataclass(frozen=True)
class Truth:
    """PyTorch's scores of everything, in fp32."""

    texts: throughput.Timed
    long: throughput.Timed
    cases: list[float]


@dataclass(frozen=True)
class Measured:
    """All figures of one competitor."""

    texts: list[throughput.Timed]
    long: list[throughput.Timed]
    cases: latency.Timed

    def __str__(self) -> str:
        rates = [f"{run.tokens / run.seconds:,.0f} tokens/s" for run in (*self.texts, *self.long)]
        return f"{', '.join(rates)}, {latency.medians(self.cases)}"


def find_truth(setting: Setting, work: Work) -> Truth:
    """Score everything in fp32."""
    competitor = COMPETITORS[TRUTH](setting)
    requests = [pair for pairs in work.cases.values() for pair in pairs]
    return Truth(
        throughput.timed(competitor, work.texts),
        throughput.timed(competitor, work.long),
        competitor.score(requests).scores.tolist(),
    )


def measure(name: str, setting: Setting, work: Work, passes: int, seconds: float) -> Measured:
    """Load a competitor, and measure everything."""
    start = time.perf_counter()
    competitor = COMPETITORS[name](setting)
    load_seconds = time.perf_counter() - start

    def time_passes(pairs: Pairs) -> list[throughput.Timed]:
        first, *runs = (throughput.timed(competitor, pairs) for _ in range(1 + passes))
        return [
            replace(run, load_seconds=load_seconds, first_seconds=first.seconds) for run in runs
        ]

    return Measured(
        time_passes(work.texts),
        time_passes(work.long),
        latency.time_cases(competitor, work.cases, seconds),
    )


T = TypeVar("T")


def part(run: Outcome[Measured], get: Callable[[Measured], list[T]]) -> list[Outcome[T]]:
    """Return one part of a competitor's figures, as one run for each pass."""
    if run.why:
        return [Outcome(missing=run.missing, failed=run.failed)]
    return [Outcome(one, peak_gb=run.peak_gb) for one in get(run.figures)]


def main() -> int:
    """Measure, print a line for each competitor, and write the results."""
    parser = parser_for(__doc__)
    parser.add_argument("--rows", required=True, help="a file like hh-rlhf's, gzipped or not")
    parser.add_argument("--count", type=int, default=2312, help="how many pairs")
    parser.add_argument("--long-count", type=int, default=512, help="how many longer rows")
    parser.add_argument("--only", nargs="+", choices=list(COMPETITORS), default=NAMES)
    parser.add_argument("--passes", type=int, default=2, help="timed, after the first")
    parser.add_argument("--seconds", type=float, default=1, help="for each kind of request")
    parser.add_argument("--timeout", type=float, default=240, help="seconds for one competitor")
    args = parser.parse_args()
    options = read_options(args)
    long_options = replace(options, label=f"{options.label}-long", join=JOIN)
    setting = set_up(options, args.only)
    rows = [row for pair in load_pairs(args.rows, options.count) for row in pair]
    long_rows = load_rows(args.rows, args.long_count, JOIN)
    work = Work(
        [row.pair for row in rows], [row.pair for row in long_rows], latency.make_cases(setting)
    )
    peaks = need(in_a_process(measure_peaks, setting.checkpoint, setting.provider), "peaks")
    print(f"matrix products {peaks}", flush=True)
    truth = need(in_a_process(find_truth, setting, work, timeout=options.timeout), TRUTH)
    print(f"{TRUTH}: {truth.texts.seconds:.1f} s for all texts", flush=True)
    texts: dict[str, list[Outcome[throughput.Timed]]] = {}
    long: dict[str, list[Outcome[throughput.Timed]]] = {}
    cases: dict[str, list[Outcome[latency.Timed]]] = {}
    wrong = 0
    for name in args.only:
        arguments = (name, setting, work, args.passes, args.seconds)
        run = in_a_process(measure, *arguments, timeout=options.timeout)
        print(f"{name}: {run.why or run.figures}", flush=True)
        texts[name] = part(run, lambda measured: measured.texts)
        long[name] = part(run, lambda measured: measured.long)
        cases[name] = part(run, lambda measured: [measured.cases])
        passes = args.passes
        wrong = throughput.write(options, setting, texts, truth.texts, peaks, passes)
        wrong |= throughput.write(long_options, setting, long, truth.long, peaks, passes)
        wrong |= latency.write(options, setting, cases, truth.cases)
        once = {name: own[:1] for name, own in texts.items()}
        wrong |= parity.write(options, setting, once, truth.texts.scores)
    return wrong


if __name__ == "__main__":
    sys.exit(main())

"""Measure the engine on a CPU over batch sizes, over threads, and over batches at once.

    python benchmarks/sweep.py --model random:gpt2 --rows FILE --precision fp32

Each setting runs once a round in a fresh process, over the same rows. Batch sizes and threads vary
with one batch at a time, as the Python class runs them, while the other has its default. Then as
many batches run at once as there are streams. With the default number of streams, which is the
number of cores, batch sizes vary again.
"""

import statistics
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

from harmless_runtime.choices import Precision
from harmless_runtime.config import make_config
from harmless_runtime.model.artifact import open_artifact
from harmless_runtime.model.batches import Limits, plan_limits
from harmless_runtime.model.cores import usable_cores
from harmless_runtime.model.load import build_engine
from harmless_runtime.model.target import Target
from suite.competitors import harmless_artifact
from suite.files import write_result
from suite.isolation import Outcome, in_a_process
from suite.options import add_precision, add_rounds, add_rows, parser_for, read_options
from suite.rounds import need, set_up
from suite.scorers import HarmlessScorer, Setting
from suite.workload import Row, load_rows

BATCH_TOKENS = (128, 256, 384, 512, 768, 1024, 2048, 4096)
THREADS = (1, 2, 3, 4)


@dataclass(frozen=True)
class Chosen:
    """One setting: the most tokens of a batch, the threads in all, and the batches at once."""

    batch_tokens: int
    threads: int
    streams: int = 1


@dataclass(frozen=True)
class Timed:
    """Tokens per second, and the share of padding."""

    tokens_per_second: float
    padding_share: float


def default_limits(setting: Setting, precision: Precision) -> Limits:
    """Return the limits that the engine has by default."""
    manifest = open_artifact(harmless_artifact(setting, precision)).manifest
    return plan_limits("cpu", manifest.parameters, 8, setting.max_length)


def run_once(setting: Setting, precision: Precision, rows: list[Row], chosen: Chosen) -> Timed:
    """Load the engine with these settings, and time it over the rows."""
    artifact = open_artifact(harmless_artifact(setting, precision))
    limits = replace(default_limits(setting, precision), batch_tokens=chosen.batch_tokens)
    config = make_config({"max_length": setting.max_length})
    target = Target("cpu", threads=chosen.threads, streams=chosen.streams)
    scorer = HarmlessScorer(build_engine(artifact, target, config, limits))
    pairs = [row.pair for row in rows]
    scorer.score(pairs[:8])
    start = time.perf_counter()
    scored = scorer.score(pairs)
    seconds = time.perf_counter() - start
    return Timed(scored.tokens / seconds, 1 - scored.tokens / scored.padded_tokens)


def main() -> None:
    """Measure, print, and write `benchmarks/results/sweep-PRECISION-….json`."""
    parser = parser_for(__doc__)
    add_rows(parser)
    add_rounds(parser)
    add_precision(parser)
    options = read_options(parser.parse_args())
    setting = set_up(options, [f"harmless-{options.precision}"])
    rows = load_rows(options.rows or "generated", options.count, options.join)
    default, cores = default_limits(setting, options.precision).batch_tokens, usable_cores()
    settings = [Chosen(tokens, cores) for tokens in BATCH_TOKENS]
    settings += [Chosen(default, threads) for threads in THREADS if threads != cores]
    settings += [Chosen(default, cores, streams) for streams in range(2, cores + 3)]
    settings += [Chosen(tokens, cores, cores) for tokens in BATCH_TOKENS if tokens != default]
    runs: dict[Chosen, list[Outcome[Timed]]] = {chosen: [] for chosen in settings}
    for _ in range(options.rounds):
        for chosen in settings:
            run = in_a_process(run_once, setting, options.precision, rows, chosen)
            print(f"{chosen}: {need(run, str(chosen))}", flush=True)
            runs[chosen].append(run)
    results = [summarise(chosen, runs[chosen]) for chosen in settings]
    figures = {"precision": options.precision, "rows": len(rows), "default": [default, cores]}
    kind = f"sweep-{options.precision}"
    write_result(kind, options, setting, figures | {"results": results})


def summarise(chosen: Chosen, runs: list[Outcome[Timed]]) -> dict[str, Any]:
    """Put the rounds of one setting together."""
    rates = [run.figures.tokens_per_second for run in runs]
    return asdict(chosen) | {
        "tokens_per_second": round(statistics.median(rates)),
        "by_round": [round(rate) for rate in rates],
        "padding_share": round(runs[0].figures.padding_share, 4),
        "peak_gb": max(run.peak_gb for run in runs),
    }


if __name__ == "__main__":
    main()

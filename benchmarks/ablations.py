"""Measure what each choice is worth: tokens per second with one thing different at a time.

    python benchmarks/ablations.py --model random:gpt2-large --rows FILE --precision fp16

Each variant runs once a round in a fresh process, over the same rows. Its scores are compared with
those of the engine as it is, and may differ by rounding alone. Variants of the graph are exported
first. `latency_ms` is the median of one row of 170 tokens, in milliseconds.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from harmless_export import export_checkpoint
from harmless_export.parity import LIMITS
from harmless_runtime.choices import Precision
from harmless_runtime.model.artifact import is_artifact
from latency import exact_pair
from suite.competitors import harmless_artifact
from suite.files import write_compared
from suite.isolation import Outcome, in_a_process
from suite.options import (
    Options,
    add_precision,
    add_rounds,
    add_rows,
    parser_for,
    read_options,
)
from suite.rounds import first_failure, need, set_up
from suite.scorers import Setting
from suite.variants import AS_IT_IS, GRAPHS, load_variant, patched, variants
from suite.workload import Row, load_rows

ONE_ROW, ONE_ROW_RUNS = 170, 50
EXPORTS = 4  # at a time; each takes a little more memory than the weights in fp32


@dataclass(frozen=True)
class Timed:
    """One variant, timed over all rows in a first pass, in a second one, and on a single row."""

    scores: list[float]
    tokens_per_second: float
    first_tokens_per_second: float
    padding_share: float
    shapes: int
    planning_seconds: float
    latency_ms: float

    @property
    def figures(self) -> dict[str, float]:
        """All but the scores."""
        return {key: value for key, value in asdict(self).items() if key != "scores"}


def artifact_of(graph: str, setting: Setting, precision: Precision) -> Path:
    """Export a graph of `GRAPHS`, if that was not done before; return its folder."""
    if not graph:
        return harmless_artifact(setting, precision)
    slug = "".join(c if c.isalnum() else "-" for c in graph)
    folder = setting.cache / f"{setting.checkpoint.name}-harmless-{precision}-{slug}"
    if not is_artifact(folder):
        with patched(GRAPHS[graph]):
            export_checkpoint(str(setting.checkpoint), folder, precision=precision, verify=False)
    return folder


def run_once(
    name: str, setting: Setting, precision: Precision, rows: list[Row], one: tuple[str, str]
) -> Timed:
    """Load a variant, and time it over the rows twice. The second time its plans are made."""
    variant = variants(setting.provider)[name]
    folder = artifact_of(variant.graph, setting, precision)
    engine = load_variant(variant, folder, setting.provider, setting.max_length)
    encoded = engine.tokenizer.encode([row.pair for row in rows])
    engine.score(encoded[:8])
    sizes: list[int] = []
    start = time.perf_counter()
    scores = engine.score(encoded, lambda batch: sizes.append(batch.tokens))
    first = time.perf_counter() - start
    again = time_of(lambda: engine.score(encoded))
    single = engine.tokenizer.encode([one])
    latencies = [time_of(lambda: engine.score(single)) for _ in range(ONE_ROW_RUNS)]
    tokens = sum(len(row.ids) for row in encoded)
    return Timed(
        scores=scores.tolist(),
        tokens_per_second=tokens / again,
        first_tokens_per_second=tokens / first,
        padding_share=1 - tokens / sum(sizes),
        shapes=engine.runner.times.shapes,
        planning_seconds=engine.runner.times.planning_seconds,
        latency_ms=1000 * statistics.median(latencies),
    )


def time_of(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def summarise(name: str, runs: Sequence[Outcome[Timed]], truth: list[float]) -> dict[str, Any]:
    """Put the rounds of one variant together, and compare its scores with the engine's."""
    if failure := first_failure(runs):
        return failure.as_result(name)
    rounds = [run.figures for run in runs]
    middle = {
        key: round(statistics.median(one.figures[key] for one in rounds), 4)
        for key in rounds[0].figures
    }
    off = max(np.abs(np.subtract(one.scores, truth)).max() for one in rounds) / np.std(truth)
    return {"name": name} | middle | {"largest_difference": float(off)}


def main() -> int:
    """Measure, print a line for each run, and write `benchmarks/results/ablations-….json`."""
    parser = parser_for(__doc__)
    add_rows(parser)
    add_rounds(parser)
    add_precision(parser)
    parser.add_argument("--variants", nargs="+", help="the names of some, not all")
    parser.add_argument("--timeout", type=float, default=120, help="seconds for one run")
    args = parser.parse_args()
    options = read_options(args)
    precision = options.precision
    setting = set_up(options, [f"harmless-{precision}"])
    rows = load_rows(options.rows or "generated", options.count, options.join)
    one = exact_pair(AutoTokenizer.from_pretrained(setting.checkpoint), ONE_ROW, 0)
    all_variants = variants(options.provider)
    names = [AS_IT_IS, *(n for n in args.variants or all_variants if n != AS_IT_IS)]
    graphs = {all_variants[name].graph for name in names} - {""}
    with ThreadPoolExecutor(EXPORTS) as pool:
        list(pool.map(lambda g: in_a_process(artifact_of, g, setting, precision), graphs))
    runs: dict[str, list[Outcome[Timed]]] = {name: [] for name in names}
    wrong = 0
    for _ in range(options.rounds):
        for name, own in runs.items():
            arguments = (name, setting, precision, rows, one)
            run = in_a_process(run_once, *arguments, timeout=options.timeout)
            if name == AS_IT_IS:
                need(run, name)
            own.append(run)
            print(f"{name}: {run.why or run.figures.figures}", flush=True)
            wrong = write(options, setting, runs)
    return wrong


def write(options: Options, setting: Setting, runs: dict[str, list[Outcome[Timed]]]) -> int:
    """Write the result of all runs so far; return the exit code."""
    truth = runs[AS_IT_IS][0].figures.scores
    results = [summarise(name, own, truth) for name, own in runs.items() if own]
    limit = LIMITS[options.precision]
    for result in results:
        if "largest_difference" in result:
            result["right"] = result["largest_difference"] <= limit
    figures = {"precision": options.precision, "rows": len(truth), "limit": limit}
    return write_compared(f"ablations-{options.precision}", options, setting, results, figures)


if __name__ == "__main__":
    sys.exit(main())

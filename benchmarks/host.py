"""Measure how much of a fast device's speed the host can feed, with a simulated device.

    python benchmarks/host.py --rows FILE --count 50000 --pace 250000 500000 1000000

In place of the model's run there is a pause, as long as a device of the given pace would take. It
lets other threads work, as a run on a GPU does. Everything else is real: reading, parsing,
tokenising, batching, padding, committing. The share of the pace that is left is what a GPU of that
speed would have on this host. It says nothing about a GPU itself.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import wraps
from pathlib import Path
from typing import Any
from unittest.mock import patch

from harmless_runtime.output.parts import Part
from harmless_runtime.output.state import write_state
from harmless_runtime.pipeline import score_files
from harmless_runtime.rows.inputs import open_inputs
from harmless_runtime.run import Run
from suite.competitors import harmless_artifact
from suite.files import write_result
from suite.isolation import in_a_process
from suite.options import add_rounds, add_rows, parser_for, read_options
from suite.paced import paced_engine
from suite.rounds import need, set_up
from suite.workload import load_rows, write_rows


@dataclass(frozen=True)
class Timed:
    """One run. Shares are of the device's pace, of its tokens, and of the run's seconds."""

    seconds: float
    device_seconds: float
    share_of_pace: float
    tokens_per_second: int
    padding_share: float
    shapes: int
    commits: int
    commit_share: float


def run_once(artifact: Path, source: Path, pace: float, max_length: int) -> Timed:
    """Score a file with a runner that pauses."""
    engine = paced_engine(artifact, pace, max_length)
    syncs: list[float] = []
    states: list[float] = []
    with (
        patch.object(Part, "sync", noting_seconds(Part.sync, syncs)),
        patch("harmless_runtime.output.writer.write_state", noting_seconds(write_state, states)),
        tempfile.TemporaryDirectory() as folder,
    ):
        run = Run(open_inputs([str(source)]), Path(folder, "scores.jsonl"))
        summary = score_files(run, engine)
    tally = summary.tally
    device = tally.computed_tokens / pace
    return Timed(
        seconds=round(summary.seconds, 2),
        device_seconds=round(device, 2),
        share_of_pace=round(device / summary.seconds, 4),
        tokens_per_second=round(tally.tokens / summary.seconds),
        padding_share=round(tally.padding_share, 4),
        shapes=engine.runner.times.shapes,
        commits=len(states),
        commit_share=round((sum(syncs) + sum(states)) / summary.seconds, 5),
    )


def noting_seconds(function: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    """Return the function, which then notes how long each call takes."""

    @wraps(function)
    def noting(*arguments: Any) -> Any:
        start = time.perf_counter()
        result = function(*arguments)
        seconds.append(time.perf_counter() - start)
        return result

    return noting


def main() -> None:
    """Measure, print, and write `benchmarks/results/host-….json`."""
    parser = parser_for(__doc__)
    add_rows(parser)
    add_rounds(parser)
    parser.add_argument(
        "--pace", type=float, nargs="+", default=[250e3, 500e3, 1e6], help="tokens per second"
    )
    parser.set_defaults(model="random:tiny")
    args = parser.parse_args()
    options = read_options(args)
    setting = set_up(options, ["harmless-fp32"])
    artifact = harmless_artifact(setting, "fp32")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "rows.jsonl")
        write_rows(source, load_rows(options.rows or "generated", options.count, options.join))
        for pace in args.pace:
            runs = [
                need(in_a_process(run_once, artifact, source, pace, 1024), f"{pace}")
                for _ in range(options.rounds)
            ]
            results.append({"pace": pace, "runs": [asdict(run) for run in runs]})
            print(results[-1], flush=True)
    write_result("host", options, setting, {"rows": options.count, "results": results})


if __name__ == "__main__":
    main()

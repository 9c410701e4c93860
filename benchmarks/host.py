"""How much of a fast device's speed the host can feed: the whole pipeline over a simulated one.

    python benchmarks/host.py --rows FILE --count 50000 --pace 250000 500000 1000000

In place of the model's run there is a pause that takes as long as a device of the given pace would
(it lets other threads work, as a run on a GPU does), and everything else is real: reading, parsing,
tokenising with the given tokenizer, batching, padding, committing. What is left of the pace is what
a GPU of that speed would have on this host. It says nothing about a GPU itself.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from competitors import harmless_artifact
from harmless_runtime.model.artifact import open_artifact
from harmless_runtime.model.batches import plan_limits
from harmless_runtime.model.engine import build_engine
from harmless_runtime.model.session import Session
from harmless_runtime.output.state import State
from harmless_runtime.output.writer import OutputFiles
from harmless_runtime.pipeline import score_files
from isolation import in_a_process
from suite import add_options, add_rounds, add_rows, need, set_up, write_result
from workload import load_rows, write_rows

# What window sizes are derived from: the real checkpoint's.
PARAMETERS = 774_000_000


def run_once(artifact: Path, source: Path, pace: float, max_length: int) -> dict[str, Any]:
    """Score a file with a session that pauses, and return the share of its pace that came out."""

    def pause(session: Session, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        time.sleep(ids.size / pace)
        session.times.add(ids.shape, ids.size / pace)
        return np.zeros(len(ids), np.float32)

    commits: list[float] = []
    commit = OutputFiles._commit

    def timed(files: OutputFiles, *, complete: bool) -> State:
        start = time.perf_counter()
        state = commit(files, complete=complete)
        commits.append(time.perf_counter() - start)
        return state

    limits = plan_limits("cuda", PARAMETERS, 8, max_length)
    opened = open_artifact(artifact)
    session = Session(opened, "cpu", 0, limits.batch_tokens)
    engine = replace(build_engine(opened, "cpu"), session=session, limits=limits)
    with (
        patch.object(Session, "_run", pause),
        patch.object(OutputFiles, "_commit", timed),
        tempfile.TemporaryDirectory() as folder,
    ):
        summary = score_files([str(source)], Path(folder, "scores.jsonl"), engine)
    tally = summary.tally
    device = tally.computed_tokens / pace
    return {
        "seconds": round(summary.seconds, 2),
        "device_seconds": round(device, 2),
        "share_of_pace": round(device / summary.seconds, 4),
        "tokens_per_second": round(tally.tokens / summary.seconds),
        "padding_share": round(tally.padding_share, 4),
        "shapes": engine.session.times.shapes,
        "commits": len(commits),
        "commit_share": round(sum(commits) / summary.seconds, 5),
    }


def main() -> None:
    """Measure, print, and write `benchmarks/results/host-….json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    add_rows(parser)
    add_rounds(parser)
    parser.add_argument(
        "--pace", type=float, nargs="+", default=[250e3, 500e3, 1e6], help="tokens a second"
    )
    parser.set_defaults(model="random:tiny")
    args = parser.parse_args()
    setting = set_up(args, ["harmless-fp32"])
    artifact = harmless_artifact(setting, "fp32")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "rows.jsonl")
        write_rows(source, load_rows(args.rows, args.count, args.join))
        for pace in args.pace:
            runs = [
                need("seconds", in_a_process(run_once, artifact, source, pace, 1024), f"{pace}")
                for _ in range(args.rounds)
            ]
            results.append({"pace": pace, "runs": runs})
            print(results[-1], flush=True)
    write_result("host", args, setting, {"rows": args.count, "results": results})


if __name__ == "__main__":
    main()

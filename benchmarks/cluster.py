"""Measure how scoring on Ray scales on one machine, and what each piece costs its driver.

    python benchmarks/cluster.py --rows FILE --count 20000 --pace 50000

Four measurements, the first three each in a Ray of its own:

- paced: in place of the model's run there is a pause, as long as a device of the given pace would
  take. So one and two workers can be compared on a machine without GPUs.
- real: sessions of one thread on the CPU, as many as there are cores.
- empty: pieces of about one row, and no pause. They show what a piece costs besides its scoring: to
  the driver, to Ray's own processes on the machine of the driver, and in all.
- merging: results that are made up are put together.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from harmless_runtime.cluster import driver
from harmless_runtime.cluster.connection import Resources
from harmless_runtime.cluster.pool import Pool
from harmless_runtime.config import make_config
from harmless_runtime.rows.inputs import open_inputs
from harmless_runtime.run import Run
from suite.competitors import harmless_artifact
from suite.files import write_result
from suite.isolation import in_a_process
from suite.merging import merge_once
from suite.options import BENCHMARKS, add_precision, add_rounds, add_rows, parser_for, read_options
from suite.paced import load_paced
from suite.rounds import need, set_up
from suite.workload import load_rows, write_rows

# Processes of Ray that serve all workers, and the one that serves those of a machine.
_SERVERS = ("gcs_server", "raylet")


@dataclass(frozen=True)
class Setup:
    """A run on Ray. A pace of None means a real session on the CPU."""

    source: Path
    artifact: Path
    workers: int
    piece_bytes: int
    pace: float | None


@dataclass(frozen=True)
class Timed:
    """What a run took, in seconds. `driver_cpu` and `servers_cpu` are processor seconds.

    `scoring` is from the first piece that is handed out to the last result.
    """

    workers: int
    pieces: int
    rows: int
    tokens: int
    seconds: float
    planning: float
    scoring: float
    merging: float
    driver_cpu: float
    servers_cpu: dict[str, float]


def run_once(setup: Setup) -> Timed:
    """Score a file on a Ray with as many logical cores as workers, each with one thread."""
    # The workers import the paced engine.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(BENCHMARKS), os.environ.get("PYTHONPATH", "")])
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    import ray

    ray.init("local", num_cpus=setup.workers, include_dashboard=False, log_to_driver=False)
    spent: dict[str, float] = {}
    cpu: dict[str, Any] = {}

    @contextmanager
    def scoring() -> Iterator[None]:
        before, own = _server_seconds(), time.process_time()
        yield
        cpu["driver"] = round(time.process_time() - own, 3)
        cpu["servers"] = {k: round(v - before[k], 2) for k, v in _server_seconds().items()}

    watched = {"pieces_of": None, "score_pieces": scoring, "merge": None}
    patches: list[Any] = [
        patch.object(driver, name, _timed(getattr(driver, name), spent, name, around))
        for name, around in watched.items()
    ]
    if setup.pace is not None:
        load = partial(load_paced, setup.artifact, setup.pace)
        patches.append(patch.object(driver, "Pool", partial(Pool, load_engine=load)))
    config = make_config({"model": str(setup.artifact), "provider": "cpu"})
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "scores.jsonl")
        run = Run(open_inputs([str(setup.source)]), output, piece_bytes=setup.piece_bytes)
        for each in patches:
            each.start()
        summary = driver.score_on_ray(run, config, Resources(setup.workers))
        for each in patches:
            each.stop()
    ray.shutdown()
    return Timed(
        setup.workers,
        int(spent["pieces"]),
        summary.tally.rows,
        summary.tally.tokens,
        round(summary.seconds, 2),
        round(spent["pieces_of"], 4),
        round(spent["score_pieces"], 2),
        round(spent["merge"], 3),
        cpu["driver"],
        cpu["servers"],
    )


def _timed(
    function: Callable[..., Any],
    spent: dict[str, float],
    name: str,
    watched: Callable[[], Any] | None = None,
) -> Callable[..., Any]:
    def timing(*arguments: Any) -> Any:
        start = time.perf_counter()
        if watched is None:
            result = function(*arguments)
        else:
            with watched():
                result = function(*arguments)
        spent[name] = time.perf_counter() - start
        if name == "pieces_of":
            spent["pieces"] = len(result)
        return result

    return timing


def _server_seconds() -> dict[str, float]:
    """Return the processor seconds of Ray's own processes on this machine."""
    ticks = os.sysconf("SC_CLK_TCK")
    found = dict.fromkeys(_SERVERS, 0.0)
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = path.read_text().partition("(")[2].rpartition(")")
        except OSError:  # it has ended meanwhile
            continue
        if name in found:
            user, system = rest.split()[11:13]
            found[name] += (int(user) + int(system)) / ticks
    return found


def main() -> None:
    """Measure, print, and write `benchmarks/results/cluster-….json`."""
    parser = parser_for(__doc__)
    add_rows(parser)
    add_rounds(parser)
    add_precision(parser)
    parser.add_argument("--pace", type=float, default=50e3, help="tokens per second of a worker")
    parser.add_argument("--real-rows", type=int, default=600, help="rows for real sessions")
    parser.add_argument("--pieces", type=int, default=3000, help="pieces of about one row")
    parser.add_argument("--workers", type=int, nargs="+", default=[4, 64], help="for empty pieces")
    args = parser.parse_args()
    options = read_options(args)
    setting = set_up(options, [f"harmless-{options.precision}"])
    artifact = harmless_artifact(setting, options.precision)
    rows = load_rows(options.rows or "generated", options.count, options.join)
    results: dict[str, list[list[dict[str, Any]]]] = {"paced": [], "real": [], "empty": []}
    with tempfile.TemporaryDirectory() as folder:
        paced, real, empty = (Path(folder, f"{name}.jsonl") for name in results)
        write_rows(paced, rows)
        write_rows(real, rows[: args.real_rows])
        write_rows(empty, rows[: args.pieces])
        small = _parts(empty, args.pieces)
        setups = [
            *(("paced", Setup(paced, artifact, n, _parts(paced, 24), args.pace)) for n in (1, 2)),
            *(("real", Setup(real, artifact, n, _parts(real, 24), None)) for n in (1, 2)),
            *(("empty", Setup(empty, artifact, n, small, 1e12)) for n in args.workers),
        ]
        merging = [asdict(merge_once(pieces, 84_000)) for pieces in (24, 240)]
        for name, setup in setups:
            runs = [need(in_a_process(run_once, setup), name) for _ in range(options.rounds)]
            results[name].append([asdict(run) for run in runs])
            print(name, results[name][-1], flush=True)
    write_result("cluster", options, setting, {"pace": args.pace, **results, "merging": merging})


def _parts(path: Path, count: int) -> int:
    return 1 + path.stat().st_size // count


if __name__ == "__main__":
    main()

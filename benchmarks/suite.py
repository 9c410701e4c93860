"""What every benchmark takes and leaves: options, competitors made ready, parity, a result file."""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from competitors import COMPETITORS, TRUTH, Setting
from harmless_export.verify import LIMITS, compare
from isolation import describe_machine, in_a_process
from workload import SIZES, checkpoint

HERE = Path(__file__).parent


def build(name: str, setting: Setting) -> dict[str, Any]:
    """Make a competitor, and with it the export that it keeps."""
    COMPETITORS[name](setting)
    return {}


def precision_of(name: str) -> str:
    """The precision that a competitor's name tells."""
    return next((p for p in ("bf16", "fp16", "int8") if p in name), "fp32")


def parity_of(name: str, truth: list[float], runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Compare the scores of every run with PyTorch's in fp32; return the worst comparison."""
    limit = LIMITS[precision_of(name)]
    reference = np.array(truth, np.float32)
    parities = [compare(name, reference, np.array(r["scores"], np.float32), limit) for r in runs]
    # One that is not a number is the worst.
    parity = max(parities, key=lambda p: (p.relative != p.relative, p.relative))
    return {
        "parity": msgspec.structs.asdict(parity),
        "right": parity.relative <= parity.limit,
    }


def report_wrong(results: list[dict[str, Any]]) -> int:
    """Name the competitors whose scores are wrong on stderr; return the exit code."""
    wrong = [r["name"] for r in results if not r.get("right", True)]
    if wrong:
        print(f"wrong scores: {', '.join(wrong)}", file=sys.stderr)
    return bool(wrong)


def write_compared(
    kind: str,
    args: argparse.Namespace,
    setting: Setting,
    results: list[dict[str, Any]],
    figures: dict[str, Any],
) -> int:
    """Write a comparison; name on stderr whose scores are wrong, for the exit code."""
    write_result(kind, args, setting, figures | {"results": results})
    return report_wrong(results)


def failure_of(name: str, runs: list[dict[str, Any]]) -> dict[str, Any] | None:
    """What to report of a competitor that could not be run, or None for one that could."""
    return next(({"name": name} | run for run in runs if "scores" not in run), None)


def in_rounds(
    args: argparse.Namespace,
    function: Callable[..., dict[str, Any]],
    *arguments: object,
    tell: Callable[[dict[str, Any]], object],
    each_round: Callable[[], None] = lambda: None,
) -> dict[str, list[dict[str, Any]]]:
    """Call `function(name, *arguments)` for every competitor, a process each, round after round.

    Rounds interleave the competitors, so that a machine that drifts hits all alike. One that fails
    is not run again; where the truth fails, the benchmark ends.

    Args:
        args: with the options of `add_competitors`.
        function: returns `scores` and whatever else.
        arguments: what it gets beside the name.
        tell: what to print of a run.
        each_round: called before every round.

    Returns:
        The runs of each competitor.
    """
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in chosen(args)}
    for number in range(1, args.rounds + 1):
        each_round()
        for name, own in runs.items():
            if failure_of(name, own):
                continue
            run = in_a_process(function, name, *arguments, timeout=args.timeout)
            own.append(need("scores", run, name) if name == TRUTH else run)
            print(f"round {number}: {name} {tell(run) if 'scores' in run else run}", flush=True)
    return runs


def chosen(args: argparse.Namespace) -> list[str]:
    """The competitors to run, the truth first."""
    return [TRUTH, *(name for name in args.only or COMPETITORS if name != TRUTH)]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what every benchmark takes: model, provider, where results and caches go."""
    parser.add_argument(
        "--model",
        default="random:gpt2",
        help=f"a folder, or random: and one of {', '.join(SIZES)}, with -outliers",
    )
    parser.add_argument("--tokenizer", help="tokenizer folder for a random model (else bytes)")
    parser.add_argument("--max-length", type=int, default=1024, help="tokens")
    parser.add_argument("--provider", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--label", default="cpu", help="names the machine in the result's file")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--cache", type=Path, default=HERE.parent / "build/benchmarks")
    parser.add_argument("--keep-artifacts", action="store_true", help="do not export again")


def add_rows(parser: argparse.ArgumentParser) -> None:
    """Add the options of a benchmark that scores rows, for `workload.load_rows`."""
    parser.add_argument("--rows", default="generated", help="a JSONL file, or `generated`")
    parser.add_argument("--count", type=int, default=64, help="how many rows")
    parser.add_argument("--join", type=int, default=1, help="make each row of so many, longer ones")


def add_rounds(parser: argparse.ArgumentParser) -> None:
    """Add the option of a benchmark that repeats itself."""
    parser.add_argument("--rounds", type=int, default=2, help="how often each is run")


def add_competitors(parser: argparse.ArgumentParser) -> None:
    """Add the options of a benchmark that compares, for `in_rounds`."""
    parser.add_argument("--only", nargs="+", choices=list(COMPETITORS), help="competitors to run")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds for one run")
    add_rounds(parser)


def add_precision(parser: argparse.ArgumentParser) -> None:
    """Add the option of a benchmark of one artifact."""
    parser.add_argument("--precision", default="fp32", choices=("fp32", "fp16", "bf16", "int8"))


def set_up(args: argparse.Namespace, names: Sequence[str]) -> Setting:
    """Make the checkpoint, and the competitors' artifacts, outside of every clock."""
    args.cache.mkdir(parents=True, exist_ok=True)
    folder = checkpoint(args.model, args.tokenizer, args.cache)
    setting = Setting(folder, args.cache, args.provider, args.max_length)
    if not args.keep_artifacts:
        for stale in args.cache.glob(f"{folder.name}-harmless-*"):
            shutil.rmtree(stale)  # the exporter may have changed since
    for name in names:
        # What exports does so now: neither its time nor its memory is the scorer's.
        if name.startswith(("harmless", "optimum")):
            in_a_process(build, name, setting)
    return setting


def write_result(
    kind: str, args: argparse.Namespace, setting: Setting, figures: dict[str, Any]
) -> None:
    """Write one result, with all that is needed to run it again."""
    today = datetime.now(UTC).date().isoformat()
    model = args.model.replace("random:", "")
    result = {
        "kind": kind,
        "date": today,
        "model": args.model,
        "tokenizer": Path(args.tokenizer).name if args.tokenizer else "bytes",
        "source": Path(args.rows).name if "rows" in args else None,
        "max_length": args.max_length,
        "code": _revision(),
        "provider": setting.provider,
        "machine": describe_machine(setting.provider),
    } | figures
    path = args.results / f"{kind}-{Path(model).name}-{args.label}-{today}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=2).replace(f"{setting.cache}/", "")
    path.write_text(text + "\n")
    print(path)


def _revision() -> str:
    """The commit that was measured, and whether files differed from it, where git tells."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        told = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # a copy without its history, or no git
        return "unknown"
    return str(told.stdout).strip()


def need(key: str, run: dict[str, Any], what: str) -> dict[str, Any]:
    """Return a run that has a key, and end the benchmark where the rest would be for nothing."""
    if key not in run:
        raise SystemExit(f"{what}: {run.get('missing') or run.get('failed')}")
    return run

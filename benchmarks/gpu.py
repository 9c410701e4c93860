"""Run every benchmark that has to be run on a GPU, in one command.

    python benchmarks/gpu.py --rows hh_harmless_base_test.jsonl.gz --label h200 --results DIR

The other benchmarks run one after the other, the most important first. Each may take what is left
of `--budget`. Their results and logs go to `--results`, and `gpu-….json` there lists what did not
fit. The same command with `--only` runs the rest, and uses the exports that were made before.
`--provider cpu --model random:tiny --count 8` rehearses it without a GPU.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from suite.options import plain_parser

HERE = Path(__file__).parent


def steps(args: argparse.Namespace) -> dict[str, list[str]]:
    """Return the commands by name, the most important first."""
    where = ["--model", args.model, "--provider", args.provider, "--keep-artifacts"]
    where += ["--results", str(args.results), "--cache", str(args.cache)]
    where += ["--rows", args.rows]
    if args.tokenizer:
        where += ["--tokenizer", args.tokenizer]
    labelled = [*where, "--label", args.label]
    half = ["--rounds", "1", "--precision", "fp16"]
    few = ["--count", "8", "--variants", "as it is", "MultiHeadAttention", "ONNX Attention"]
    if args.provider == "cuda":
        few.append("cuDNN's attention")
    count, many = ["--count", str(args.count)], ["--count", str(20 * args.count)]
    compared = [*count, "--long-count", str(max(8, args.count // 4))]
    if args.provider == "cpu":  # which has no bf16 kernels
        compared += ["--only", "pytorch-bf16-original", "compile-bf16", "harmless-fp16"]
    return {
        # In a folder of its own, because its times include debugging output.
        "kernels": ["ablations.py", *labelled, *half, *few, "--results", f"{args.results}/kernels"],
        "compare": ["compare.py", *labelled, *compared],
        "end-to-end": ["end_to_end.py", *labelled, *half, *many],
        "ablations": ["ablations.py", *labelled, *half, *count, "--timeout", "60"],
    }


def run(name: str, command: list[str], seconds: float, args: argparse.Namespace) -> dict[str, Any]:
    """Run one benchmark with its output in a log; return how it ended."""
    log = args.results / f"{name}.log"
    environment = dict(os.environ)
    if name == "kernels":
        environment["ORT_ENABLE_ATTENTION_KERNEL_DEBUG_INFO"] = "1"
    start = time.monotonic()
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, HERE / command[0], *command[1:]],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with suppress(ProcessLookupError):  # kills its children too, which hold GPU memory
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    told: dict[str, Any] = {"exit_code": code, "seconds": round(time.monotonic() - start, 1)}
    if name == "kernels":
        told["kernels"] = sorted(set(re.findall(r"\w*Kernel=\w+", log.read_text())))
    return told


def main() -> int:
    """Run every step that there is time for. Fail if one failed or was left out."""
    parser = plain_parser(__doc__)
    parser.add_argument("--model", default="random:gpt2-large")
    parser.add_argument("--tokenizer", help="tokenizer folder for a random model (else bytes)")
    parser.add_argument("--provider", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--rows", required=True, help="a file like hh-rlhf's, gzipped or not")
    parser.add_argument(
        "--count",
        type=int,
        default=2312,
        help="pairs of texts; the whole command gets 20 × as many rows",
    )
    parser.add_argument("--budget", type=float, default=570, help="seconds for all of it")
    parser.add_argument("--only", nargs="+", help="the names of some steps")
    parser.add_argument("--label", default="gpu", help="names the machine in the results' files")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--cache", type=Path, default=HERE.parent / "build/benchmarks")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    args.results.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + args.budget
    path = args.results / f"gpu-{args.label}.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    report: dict[str, Any] = {}
    for name, command in steps(args).items():
        left = deadline - time.monotonic()
        if args.only and name not in args.only:
            continue
        report[name] = run(name, command, left, args) if left > 5 else {"exit_code": None}
        print(f"{name}: {report[name]}", flush=True)
        path.write_text(json.dumps(before | report, indent=2) + "\n")
    return int(any(step["exit_code"] != 0 for step in report.values()))


if __name__ == "__main__":
    sys.exit(main())

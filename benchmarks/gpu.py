"""Everything that has to be measured on a GPU, in one command of under ten minutes.

    python benchmarks/gpu.py --rows hh_harmless_base_test.jsonl.gz --label h200 --results DIR

The other benchmarks run one after the other, what matters most first, each with what is left of
the time. Their results and logs go to `--results`, and what did not fit is listed in `gpu-….json`
there. `--provider cpu --model random:tiny --count 8` rehearses it without a GPU.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
HALF = ("harmless-fp16", "harmless-bf16")
PEERS = ("pytorch-bf16-original", "pytorch-bf16", "compile-bf16")


def steps(args: argparse.Namespace) -> dict[str, list[str]]:
    """The commands by name, in the order of what they are worth."""
    where = ["--model", args.model, "--provider", args.provider, "--keep-artifacts"]
    where += ["--results", str(args.results), "--cache", str(args.cache)]
    if args.tokenizer:
        where += ["--tokenizer", args.tokenizer]
    label, long_label = ["--label", args.label], ["--label", f"{args.label}-long"]
    rows, once = ["--rows", args.rows, "--count", str(args.count)], ["--rounds", "1"]
    fp16 = ["--precision", "fp16"]
    # A CPU has no bf16 kernels, and is rehearsed with what it has.
    own = HALF if args.provider == "cuda" else ("harmless-fp16", "harmless-fp32")
    compared = ["--timeout", "150", "--only", *PEERS, *own]
    few = ["--rows", args.rows, "--count", "8"]
    few += ["--variants", "as it is", "contrib Attention", "ONNX Attention"]
    many = ["--rows", args.rows, "--count", str(20 * args.count)]
    pairs = ["--pairs", args.rows, "--count", str(args.count)]
    return {
        "kernels": ["ablations.py", *where, "--label", "kernels", *few, *once, *fp16],
        "throughput": ["throughput.py", *where, *label, *rows, *compared],
        "latency": ["latency.py", *where, *label, *once, "--seconds", "1", *compared],
        "parity": ["parity.py", *where, *label, *pairs, "--only", PEERS[0], *own],
        "ablations": ["ablations.py", *where, *label, *rows, *once, *fp16, "--timeout", "60"],
        "end-to-end": ["end_to_end.py", *where, *label, *many, *once, *fp16],
        "long rows": ["throughput.py", *where, *long_label, *rows, "--join", "4", *once, *compared],
    }


def run(name: str, command: list[str], seconds: float, args: argparse.Namespace) -> dict[str, Any]:
    """Run one benchmark with its output in a log, and say how it ended."""
    log = args.results / f"{name.replace(' ', '-')}.log"
    environment = dict(os.environ)
    if name == "kernels":
        environment["ORT_ENABLE_ATTENTION_KERNEL_DEBUG_INFO"] = "1"
    start = time.monotonic()
    with log.open("w") as file:
        try:
            code = subprocess.run(
                [sys.executable, HERE / command[0], *command[1:]],
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=seconds,
                check=False,
                env=environment,
            ).returncode
        except subprocess.TimeoutExpired:
            code = None
    told: dict[str, Any] = {"exit_code": code, "seconds": round(time.monotonic() - start, 1)}
    if name == "kernels":
        told["kernels"] = sorted(set(re.findall(r"\w*Kernel=\w+", log.read_text())))
    return told


def main() -> int:
    """Run every step that there is time for; fail where one failed or was left out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="random:gpt2-large")
    parser.add_argument("--tokenizer", help="tokenizer folder for a random model (else bytes)")
    parser.add_argument("--provider", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--rows", required=True, help="a file like hh-rlhf's, gzipped or not")
    parser.add_argument("--count", type=int, default=2312, help="rows; the whole command gets 20 ×")
    parser.add_argument("--budget", type=float, default=570, help="seconds for all of it")
    parser.add_argument("--only", nargs="+", help="the names of some steps")
    parser.add_argument("--label", default="gpu", help="names the machine in the results' files")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--cache", type=Path, default=HERE.parent / "build/benchmarks")
    args = parser.parse_args()
    args.results.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + args.budget
    report: dict[str, Any] = {}
    for name, command in steps(args).items():
        left = deadline - time.monotonic()
        if args.only and name not in args.only:
            continue
        report[name] = run(name, command, left, args) if left > 5 else {"exit_code": None}
        print(f"{name}: {report[name]}", flush=True)
        path = args.results / f"gpu-{args.label}.json"
        path.write_text(json.dumps(report, indent=2) + "\n")
    return int(any(step["exit_code"] != 0 for step in report.values()))


if __name__ == "__main__":
    sys.exit(main())

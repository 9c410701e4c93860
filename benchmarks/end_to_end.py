"""The whole command against the engine alone: what share of the engine's speed reaches the user.

    python benchmarks/end_to_end.py --model random:gpt2 --rows FILE --count 512

`harmless score` is timed as a process, start-up included, and in the same run the steps that it
overlaps are timed one after the other: reading and parsing, tokenising, running, writing.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from competitors import harmless_artifact
from harmless_runtime.config import make_config
from harmless_runtime.model.engine import load_engine
from harmless_runtime.rows.lines import score_line
from harmless_runtime.rows.prompt import question_and_answer
from harmless_runtime.rows.records import Record, parse_line, read_lines
from harmless_runtime.windows import read_windows
from isolation import in_a_process, run_harmless
from suite import add_options, add_precision, add_rounds, add_rows, need, set_up, write_result
from workload import load_rows, write_rows


def run_command(artifact: Path, rows: Path, out: Path, provider: str) -> float:
    """Run `harmless score`, and return its seconds."""
    options: list[str | Path] = ["--model", artifact, "--provider", provider, "--overwrite"]
    return run_harmless("score", rows, "-o", out, *options)[0]


def time_steps(artifact: Path, rows: Path, provider: str) -> dict[str, Any]:
    """Time the command's steps one after the other, in seconds, on the command's own windows."""
    engine = load_engine(make_config({"model": str(artifact), "provider": provider}))
    engine.score(engine.tokenizer.encode([question_and_answer("warm", "", "up")]))
    start = time.perf_counter()
    lines = list(read_lines([str(rows)], engine.limits.line_bytes))
    records = [parse_line(line) for line in lines]
    read = time.perf_counter()
    pairs = [
        question_and_answer(record.instruction, record.input or "", record.output)
        for record in records
        if isinstance(record, Record)
    ]
    tokens = sum(len(encoded.ids) for encoded in engine.tokenizer.encode(pairs))
    tokenised = time.perf_counter()
    windows = list(read_windows(lines, engine.tokenizer, engine.limits))
    begin = time.perf_counter()
    scores = [engine.score([row.encoded for row in window.rows]) for window in windows]
    ran = time.perf_counter()
    with tempfile.TemporaryFile() as file:
        for window, values in zip(windows, scores, strict=True):
            file.writelines(
                score_line(row.id, score) for row, score in zip(window.rows, values, strict=True)
            )
    written = time.perf_counter()
    return {
        "read": read - start,
        "tokenise": tokenised - read,
        "run": ran - begin,
        "write": written - ran,
        "tokens": tokens,
        "windows": len(windows),
    }


def main() -> None:
    """Measure, print, and write `benchmarks/results/end-to-end-PRECISION-….json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    add_rows(parser)
    add_rounds(parser)
    add_precision(parser)
    args = parser.parse_args()
    setting = set_up(args, [f"harmless-{args.precision}"])
    rows = load_rows(args.rows, args.count, args.join)
    artifact = harmless_artifact(setting, args.precision)
    with tempfile.TemporaryDirectory() as folder:
        source, one, out = (Path(folder, name) for name in ("rows.jsonl", "one.jsonl", "out.jsonl"))
        write_rows(source, rows)
        write_rows(one, rows[:1])
        commands, steps = [], []
        for _ in range(args.rounds):
            commands.append(run_command(artifact, source, out, args.provider))
            step = in_a_process(time_steps, artifact, source, args.provider)
            steps.append(need("run", step, "the steps"))
            print(f"command {commands[-1]:.2f} s, steps {steps[-1]}", flush=True)
        start_up = run_command(artifact, one, out, args.provider)
    command = statistics.median(commands)
    engine = statistics.median(step["run"] for step in steps)
    write_result(f"end-to-end-{args.precision}", args, setting, {
        "precision": args.precision,
        "rows": len(rows),
        "tokens": steps[0]["tokens"],
        "command_seconds": [round(value, 2) for value in commands],
        "start_up_seconds": round(start_up, 2),
        "steps": [{k: round(v, 3) for k, v in step.items()} for step in steps],
        "engine_share": round(engine / command, 3),
    })  # fmt: skip
    print(f"{engine / command:.1%} of the engine's speed")


if __name__ == "__main__":
    main()

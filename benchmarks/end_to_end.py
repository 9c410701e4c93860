"""Compare the whole command with the engine alone: what share of its speed reaches the user.

    python benchmarks/end_to_end.py --model random:gpt2 --rows FILE --count 512

`harmless score` is timed as a process, start-up included, and in the same run the steps that it
overlaps are timed one after the other: reading and parsing, tokenising, running, writing.
"""

import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from harmless_runtime.choices import Provider
from harmless_runtime.config import make_config
from harmless_runtime.model.load import load_engine
from harmless_runtime.rows.inputs import open_inputs
from harmless_runtime.rows.output_lines import score_line
from harmless_runtime.rows.prompt import question_and_answer
from harmless_runtime.rows.records import Pair
from harmless_runtime.windows import read_windows
from suite.competitors import harmless_artifact
from suite.files import write_result
from suite.isolation import in_a_process, run_harmless
from suite.options import add_precision, add_rounds, add_rows, parser_for, read_options
from suite.rounds import need, set_up
from suite.workload import load_rows, write_rows


@dataclass(frozen=True)
class Steps:
    """Seconds of each step, and how many tokens and windows there were."""

    read: float
    tokenise: float
    run: float
    write: float
    tokens: int
    windows: int


def run_command(artifact: Path, rows: Path, out: Path, provider: Provider) -> float:
    """Run `harmless score`; return its seconds."""
    options: list[str | Path] = ["--model", artifact, "--provider", provider, "--overwrite"]
    return run_harmless("score", rows, "-o", out, *options)[0]


def time_steps(artifact: Path, rows: Path, provider: Provider) -> Steps:
    """Time the command's steps one after the other, in seconds, on the command's own windows."""
    engine = load_engine(make_config({"model": str(artifact), "provider": provider}))
    engine.score(engine.tokenizer.encode([question_and_answer("warm", "", "up")]))
    start = time.perf_counter()
    items = list(open_inputs([str(rows)]).rows())
    read = time.perf_counter()
    texts = [(item.question, item.answer) for item in items if isinstance(item, Pair)]
    tokens = sum(len(encoded.ids) for encoded in engine.tokenizer.encode(texts))
    tokenised = time.perf_counter()
    windows = list(read_windows(items, engine.tokenizer, engine.limits))
    begin = time.perf_counter()
    scores = [engine.score([row.encoded for row in window.rows]) for window in windows]
    ran = time.perf_counter()
    with tempfile.TemporaryFile() as file:
        for window, values in zip(windows, scores, strict=True):
            file.writelines(
                score_line(row.pair.id, score)
                for row, score in zip(window.rows, values, strict=True)
            )
    written = time.perf_counter()
    return Steps(
        read=read - start,
        tokenise=tokenised - read,
        run=ran - begin,
        write=written - ran,
        tokens=tokens,
        windows=len(windows),
    )


def main() -> None:
    """Measure, print, and write `benchmarks/results/end-to-end-PRECISION-….json`."""
    parser = parser_for(__doc__)
    add_rows(parser)
    add_rounds(parser)
    add_precision(parser)
    options = read_options(parser.parse_args())
    setting = set_up(options, [f"harmless-{options.precision}"])
    rows = load_rows(options.rows or "generated", options.count, options.join)
    artifact = harmless_artifact(setting, options.precision)
    with tempfile.TemporaryDirectory() as folder:
        source, one, out = (Path(folder, name) for name in ("rows.jsonl", "one.jsonl", "out.jsonl"))
        write_rows(source, rows)
        write_rows(one, rows[:1])
        commands, steps = [], []
        for _ in range(options.rounds):
            commands.append(run_command(artifact, source, out, options.provider))
            step = in_a_process(time_steps, artifact, source, options.provider)
            steps.append(need(step, "the steps"))
            print(f"command {commands[-1]:.2f} s, steps {steps[-1]}", flush=True)
        start_up = run_command(artifact, one, out, options.provider)
    command = statistics.median(commands)
    engine = statistics.median(step.run for step in steps)
    write_result(f"end-to-end-{options.precision}", options, setting, {
        "precision": options.precision,
        "rows": len(rows),
        "tokens": steps[0].tokens,
        "command_seconds": [round(value, 2) for value in commands],
        "start_up_seconds": round(start_up, 2),
        "steps": [{k: round(v, 3) for k, v in asdict(step).items()} for step in steps],
        "engine_share": round(engine / command, 3),
    })  # fmt: skip
    print(f"{engine / command:.1%} of the engine's speed")


if __name__ == "__main__":
    main()

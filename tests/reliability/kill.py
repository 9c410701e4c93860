"""Kill `harmless score` at random moments, resume it, and compare with an undisturbed run.

    python tests/reliability/kill.py --kills 100

Every process gets SIGKILL after a random time, until one finishes. Then the next run begins.
Windows and the time between commits are short, so that more kills happen during a commit.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import results
from reading import read_folder


def program(window_rows: int) -> str:
    """Return a program that is `harmless`, with small windows and a commit after each."""
    return f"""
from dataclasses import replace
from harmless_runtime import pipeline
from harmless_runtime.cli.app import main

score_files = pipeline.score_files

def in_small_windows(run, engine, on_progress):
    limits = replace(engine.limits, window_rows={window_rows})
    return score_files(replace(run, commit_seconds=0), replace(engine, limits=limits), on_progress)

pipeline.score_files = in_small_windows
main()
"""


def row(number: int) -> str:
    """Return a row. Some have no id, share one, or cannot be scored."""
    if number % 41 == 3:
        return '{"instruction": 7}'
    value = {"instruction": f"Count to {number % 89}.", "output": f"one two {number}"}
    return json.dumps(value if number % 3 else value | {"id": number % 7})


def start(rows: Path, out: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start to score."""
    command: list[str | Path] = [
        sys.executable,
        "-c",
        program(300),
        "score",
        rows,
        "-o",
        out,
        "--model",
        "demo",
    ]
    return subprocess.Popen([*command, *options], stderr=subprocess.PIPE)


def write_rows(path: Path, count: int) -> Path:
    """Write so many rows as JSON lines."""
    path.write_text("".join(f"{row(n)}\n" for n in range(count)))
    return path


def kill_again_and_again(
    folder: Path,
    source: Path,
    kills: int,
    longest: float,
    seed: int = 0,
    name: str = "o.jsonl",
    options: tuple[str, ...] = (),
) -> dict[str, int]:
    """Kill processes, and return how many there were and how many runs they completed.

    Args:
        folder: where to write.
        source: the rows.
        kills: the least number of kills.
        longest: most seconds to a kill.
        seed: of the times.
        name: of the output.
        options: further ones of the command.

    Raises:
        AssertionError: a process failed, or a run's bytes differ from those of one left alone.
    """
    chance = random.Random(seed)
    whole = folder / "whole"
    whole.mkdir()
    process = start(source, whole / name, *options)
    _, errors = process.communicate()
    assert process.returncode in (0, 3), errors
    code, expected = process.returncode, read_folder(whole)
    counts = {"kills": 0, "kills_between_commits": 0, "runs": 0}
    while counts["kills"] < kills:
        attempt = folder / f"run-{counts['runs']}"
        attempt.mkdir()
        while True:
            process = start(source, attempt / name, "--resume", *options)
            try:
                _, errors = process.communicate(timeout=chance.uniform(0, longest))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                counts["kills"] += 1
                counts["kills_between_commits"] += (attempt / f"{name}.state").exists()
                continue
            # If the process before was killed after its last step, the output is complete.
            done = process.returncode == code or b"already complete" in errors
            assert done, errors
            break
        assert read_folder(attempt) == expected, counts
        counts["runs"] += 1
    return counts


def main() -> None:
    """Run, print, and write `docs/results/kill.json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--longest", type=float, default=2.0, help="seconds to a kill, at most")
    args = parser.parse_args()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        source = write_rows(Path(folder, "rows.jsonl"), args.rows)
        counts = kill_again_and_again(Path(folder), source, args.kills, args.longest)
    results.write("kill", {
        "rows": args.rows,
        **counts,
        "differences": 0,
        "seconds": round(time.monotonic() - begin),
    })  # fmt: skip


if __name__ == "__main__":
    main()

"""Kill `harmless score` at random moments, resume it, and compare with an undisturbed run.

    python tests/kill.py --kills 100

Every process gets SIGKILL after a random time, on from its start, until one finishes; then the next
run begins. Windows and commits are made short, so that more kills fall into a commit.
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


def program(window_rows: int) -> str:
    """What `harmless` is, but for its small windows and a commit after each."""
    return (
        "from dataclasses import replace\n"
        "from harmless_runtime.model import engine\n"
        "from harmless_runtime.output import writer\n"
        "plan = engine.plan_limits\n"
        f"engine.plan_limits = lambda *a: replace(plan(*a), window_rows={window_rows})\n"
        "writer._COMMIT_SECONDS = 0\n"
        "from harmless_runtime.cli.app import main; main()"
    )


def row(number: int) -> str:
    """A row; some have no id, share one, or cannot be scored."""
    if number % 41 == 3:
        return '{"instruction": 7}'
    value = {"instruction": f"Count to {number % 89}.", "output": f"one two {number}"}
    return json.dumps(value if number % 3 else value | {"id": number % 7})


def start(rows: Path, out: Path, *options: str) -> subprocess.Popen[bytes]:
    """Begin to score."""
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


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file of an output by its name, but for the lock, which a kill leaves behind."""
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    return {name: content for name, content in found.items() if not name.endswith(".lock")}


def kill_again_and_again(
    folder: Path, kills: int, rows: int, longest: float, seed: int = 0
) -> dict[str, int]:
    """Kill so many processes; return how many there were, and the runs that they completed.

    Raises:
        AssertionError: a process failed, or a run's bytes differ from those of one left alone.
    """
    chance = random.Random(seed)
    source, whole = folder / "rows.jsonl", folder / "whole"
    source.write_text("".join(f"{row(n)}\n" for n in range(rows)))
    whole.mkdir()
    process = start(source, whole / "o.jsonl")
    _, errors = process.communicate()
    assert process.returncode == 3, errors
    expected = files_of(whole)
    assert sorted(expected) == ["o.jsonl", "o.rejects.jsonl"]
    counts = {"kills": 0, "kills_between_commits": 0, "runs": 0}
    while counts["kills"] < kills:
        attempt = folder / f"run-{counts['runs']}"
        attempt.mkdir()
        while True:
            process = start(source, attempt / "o.jsonl", "--resume")
            try:
                _, errors = process.communicate(timeout=chance.uniform(0, longest))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                counts["kills"] += 1
                counts["kills_between_commits"] += (attempt / "o.jsonl.state").exists()
                continue
            # Killed after the last step, before it could say so: then it is complete.
            done = process.returncode == 3 or b"nothing to resume" in errors
            assert done, errors
            break
        assert files_of(attempt) == expected, counts
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
        counts = kill_again_and_again(Path(folder), args.kills, args.rows, args.longest)
    results.write("kill", {
        "rows": args.rows,
        **counts,
        "differences": 0,
        "seconds": round(time.monotonic() - begin),
    })  # fmt: skip


if __name__ == "__main__":
    main()

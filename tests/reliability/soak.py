"""Score a million rows with the bundled model, and watch the process: memory and descriptors.

    python tests/reliability/soak.py --rows 1000000

Among short rows are long ones, both of whose texts have from 50 KB to 2 MiB. It also checks that
every row has its line of output, in order.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import results

INTERVAL = 1.0
# Each row of such a number has two long texts.
LONG_EVERY = 5000
LENGTHS = (50_000, 200_000, 2 * 2**20)


def row(number: int) -> dict[str, object]:
    """Return a row, and a long one once in a while."""
    if number % LONG_EVERY != LONG_EVERY - 1:
        texts = f"Add {number} and 1.", f"That is {number + 1}."
    else:
        length = LENGTHS[number // LONG_EVERY % len(LENGTHS)]
        # The whole row stays below the most bytes of a line, 4 MiB.
        texts = "Some words, and " * (length // 16 - 99), f"{number}. " * (length // 10)
    return {"id": number, "instruction": texts[0], "output": texts[1]}


def sample(pid: int) -> tuple[int, int]:
    """Return the resident bytes and the number of open descriptors of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    (resident,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    return int(resident) * 1024, len(list(Path(f"/proc/{pid}/fd").iterdir()))


def main() -> None:
    """Run, check, print, and write `docs/results/soak.json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows, out = Path(folder, "rows.jsonl"), Path(folder, "scores.jsonl")
        with rows.open("w") as file:
            for i in range(args.rows):
                file.write(json.dumps(row(i)) + "\n")
        command: list[str | Path] = [
            Path(sys.executable).with_name("harmless"),
            "score",
            rows,
            "-o",
            out,
        ]
        begin = time.monotonic()
        process = subprocess.Popen([*command, "--model", "demo"], stderr=subprocess.DEVNULL)
        samples = []
        while process.poll() is None:
            try:
                samples.append(sample(process.pid))
            except (OSError, ValueError):  # it has just ended
                break
            time.sleep(INTERVAL)
        assert process.wait() == 0
        seconds = time.monotonic() - begin
        with out.open() as file:
            for number, line in enumerate(file):
                assert json.loads(line)["id"] == number
        assert number == args.rows - 1
    tenth = max(1, len(samples) // 10)
    # The first tenth loads the model and fills the buffers.
    early, late = samples[tenth : 2 * tenth], samples[-tenth:]
    results.write("soak", {
        "rows": args.rows,
        "long_rows": args.rows // LONG_EVERY,
        "seconds": round(seconds),
        "samples": len(samples),
        "early_mb": round(statistics.median(resident for resident, _ in early) / 1e6, 1),
        "late_mb": round(statistics.median(resident for resident, _ in late) / 1e6, 1),
        "peak_mb": round(max(resident for resident, _ in samples) / 1e6, 1),
        "early_descriptors": max(descriptors for _, descriptors in early),
        "late_descriptors": max(descriptors for _, descriptors in late),
    })  # fmt: skip


if __name__ == "__main__":
    main()

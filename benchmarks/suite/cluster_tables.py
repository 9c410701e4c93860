"""Render what scoring on Ray costs, in Markdown."""

import statistics
from pathlib import Path
from typing import Any

from suite.results import Result, all_figures, machine_name

# The case that the costs are set in relation to: the rows of a large data set on large GPUs. The
# speed of a GPU is assumed, because none was there.
ROWS = 10**9
TOKENS_A_ROW = 170
BYTES_A_ROW = 800
TOKENS_A_SECOND = 400_000
GPUS = 1000
PIECE_BYTES = 64 * 2**20


def median(runs: list[dict[str, Any]], name: str) -> float:
    """Return the median of a figure."""
    return float(statistics.median(run[name] for run in runs))


def scaling_table(path: Path, result: Result) -> str:
    """How two workers compare with one."""
    lines = [
        "| sessions | one worker | two workers | times as fast |",
        "|---|---|---|---|",
    ]
    names = {
        "paced": f"pauses, as long as a device of {result['pace']:,.0f} tokens/s would take",
        "real": "real ones on the CPU, of one thread",
    }
    for kind, told in names.items():
        one, two = (median(runs, "scoring") for runs in result[kind])
        rows = result[kind][0][0]["rows"]
        lines.append(f"| {told}; {rows:,} rows | {one:.1f} s | {two:.1f} s | {one / two:.2f} |")
    return (
        "\n".join(lines) + f"\n\nFrom the first piece that is handed out to the last result, on "
        f"{machine_name(result)}, which also run Ray ({all_figures(path)}).\n"
    )


def costs(result: Result) -> tuple[float, float]:
    """Return the milliseconds of the driver's processor that a piece takes, and rows a second.

    The rows are those that it puts together, from the difference of two runs.
    """
    runs = result["empty"][-1]
    milliseconds = 1000 * median(runs, "driver_cpu") / runs[0]["pieces"]
    few, many = result["merging"]
    rows = (many["rows"] - few["rows"]) / (many["seconds"] - few["seconds"])
    return milliseconds, rows


def costs_text(path: Path, result: Result) -> str:
    """What the driver has to do, and what that means for a thousand GPUs."""
    milliseconds, rows = costs(result)
    runs = result["empty"][-1]
    workers, pieces = runs[0]["workers"], runs[0]["pieces"]
    servers = sum(runs[0]["servers_cpu"].values())
    seconds = ROWS * TOKENS_A_ROW / TOKENS_A_SECOND / GPUS
    total = ROWS * BYTES_A_ROW
    count = total / PIECE_BYTES
    busy = count / seconds * milliseconds / 1000
    lines = [
        "| 10⁹ rows of 170 tokens on 1,000 GPUs of 400,000 tokens/s each | |",
        "|---|---|",
        f"| scoring | {seconds:,.0f} s |",
        f"| pieces of 64 MiB, at {BYTES_A_ROW} bytes a row | {count:,.0f}, "
        f"{count / seconds:.0f} a second |",
        f"| the driver's processor, at {milliseconds:.1f} ms a piece | {busy:.1%} of the time |",
        f"| so the driver is busy with handing out pieces at | {GPUS / busy:,.0f} GPUs |",
        f"| reading the rows | {total / seconds / 1e9:.1f} GB/s from all machines together |",
        f"| putting the scores together, at {rows / 1e6:.1f} million rows/s | "
        f"{ROWS / rows:,.0f} s more, on the driver alone |",
    ]
    return (
        f"A session that does nothing, and {pieces:,} pieces of about a row: with {workers} "
        f"workers a piece takes {milliseconds:.1f} ms of the driver's processor, and "
        f"{1000 * servers / pieces:.1f} ms of Ray's own processes on its machine "
        f"({all_figures(path)}).\n\n" + "\n".join(lines) + "\n"
    )

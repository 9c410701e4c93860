"""Render results as sentences in Markdown."""

import json
import statistics
from pathlib import Path

from suite.results import ROOT, Result, all_figures, machine_name, model_name

RELIABILITY_RESULTS = ROOT / "docs/results"


def end_to_end_line(path: Path, result: Result) -> str:
    """What share of the engine's speed the command has, and where the rest would go."""
    command = statistics.median(result["command_seconds"])
    steps = {
        name: statistics.median(step[name] for step in result["steps"])
        for name in ("read", "tokenise", "run", "write")
    }
    told = ", ".join(f"{name} {seconds:,.1f} s" for name, seconds in steps.items())
    return (
        f"{model_name(result)}, {result['precision']}, {machine_name(result)}, {result['rows']:,} "
        f"rows: `harmless score` takes {command:,.1f} s, start-up included, "
        f"{result['engine_share']:.1%} of the engine's own speed. One after the other, the steps "
        f"that it overlaps take: {told}; a command for one row takes "
        f"{result['start_up_seconds']:.1f} s ({all_figures(path)}).\n"
    )


def footprint_line(path: Path, result: Result) -> str:
    """Memory, and time to start."""
    few, many = result["short_rows"][0], result["short_rows"][-1]
    starts = result["start_medians"]
    return (
        f"{model_name(result)}, {machine_name(result)}: `harmless --help` takes "
        f"{starts['help']:.2f} s and `harmless demo` {starts['demo']:.2f} s. With the bundled "
        f"model, {few['rows']:,} short rows take {few['peak_mb']:.0f} MB at most, and "
        f"{many['rows']:,} take {many['peak_mb']:.0f} MB ({result['short_rows_growth']:.2f} times "
        f"as much). Scoring a row in {result['precision']} takes {result['one_row_peak_gb']:.2f} "
        f"GB, {result['one_row_peak_over_weights']:.2f} times the weights "
        f"({all_figures(path)}).\n"
    )


def reliability() -> str:
    """The results of the long runs that kill, fuzz and soak."""
    kill, fuzz, soak = (
        json.loads((RELIABILITY_RESULTS / f"{name}.json").read_text())
        for name in ("kill", "fuzz", "soak")
    )
    outcomes = ", ".join(f"{count:,} {what}" for what, count in fuzz["outcomes"].items())
    return (
        f"- `python tests/reliability/kill.py` ({kill['date']}): {kill['kills']:,} kills, "
        f"{kill['kills_between_commits']:,} of them of a run that had committed something, in "
        f"{kill['runs']:,} runs of {kill['rows']:,} rows that came to their end; "
        f"{kill['differences']:,} bytes differed.\n"
        f"- `python tests/reliability/fuzz.py` ({fuzz['date']}): "
        f"{fuzz['examples_of_each_kind']:,} examples of each kind, {outcomes}; "
        f"{fuzz['failures']:,} failures.\n"
        f"- `python tests/reliability/soak.py` ({soak['date']}): {soak['rows']:,} rows, "
        f"{soak['long_rows']:,} of them with two texts of 50 KB to 2 MiB, in "
        f"{soak['seconds']:,} s; {soak['early_mb']:.0f} MB in the second tenth of the run and "
        f"{soak['late_mb']:.0f} MB in the last, {soak['peak_mb']:.0f} MB at most; "
        f"{soak['early_descriptors']} and "
        f"{soak['late_descriptors']} descriptors.\n"
    )

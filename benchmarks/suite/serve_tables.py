"""Render what a server does under load, in Markdown."""

from pathlib import Path
from typing import Any

from suite.results import Result, all_figures, machine_name


def serve_table(path: Path, result: Result) -> str:
    """How many rows a second a server answers, and how long a request takes."""
    lines = ["| | rows/s | p50 | p99 | refused with 429 |", "|---|---|---|---|---|"]
    lines += [_line(_clients(load["clients"]), load) for load in result["results"]]
    lines.append(_line("twice as many requests as it answers", result["twice"]))
    text = "\n".join(lines) + (
        f"\n\nOne row a request, rows of {result['rows']}, the model {result['model']} on "
        f"{machine_name(result)}, which also run the clients; {result['max_waiting']} rows may "
        f"wait. The engine alone scores {result['alone']:,.0f} of these rows a second, in calls "
        f"of many ({all_figures(path)}).\n"
    )
    if "soak" in result:
        soak, before = result["soak"], result["twice"]["resident_mb"]
        text += (
            f"\nIn {soak['seconds']:.0f} seconds more with {soak['clients']} clients, "
            f"{soak['answered']:,} requests were answered and {soak['other']} failed; the "
            f"server's memory went from {before:.0f} to {soak['resident_mb']:.0f} MB.\n"
        )
    return text


def _clients(count: int) -> str:
    return "1 client" if count == 1 else f"{count} clients"


def _line(name: str, load: dict[str, Any]) -> str:
    sent = load["answered"] + load["refused"]
    refused = f"{load['refused'] / sent:.0%}" if load["refused"] else "none"
    return (
        f"| {name} | {load['rows_per_second']:,.0f} | {load['p50_ms']:,.0f} ms | "
        f"{load['p99_ms']:,.0f} ms | {refused} |"
    )

"""Render what a server does under load, in Markdown."""

from pathlib import Path
from typing import Any

from suite.results import Result, all_figures, machine_name


def serve_table(path: Path, result: Result) -> str:
    """How many rows a second a server answers, and how long a request takes."""
    lines = ["| | rows/s | p50 | p99 | refused with 429 |", "|---|---|---|---|---|"]
    lines += [_line(_clients(load["clients"]), load) for load in result["results"]]
    lines.append(_line("twice as many requests as it answers", result["twice"]))
    picture = f"images/{path.stem}.svg"
    text = "\n".join(lines) + (
        f"\n\n![Rows per second and milliseconds over the number of clients]({picture})\n"
        f"\nOne row a request, rows of {result['rows']}, the model {result['model']} on "
        f"{machine_name(result)}, which also run the clients; {result['max_waiting']} rows may "
        f"wait. The engine alone scores {result['alone']:,.0f} of these rows a second, in calls "
        f"of many ({all_figures(path)}).\n"
    )
    if "soak" in result:
        minutes = result["soak"]
        memory = [load["resident_mb"] for load in minutes]
        slowest = [load["p99_ms"] for load in minutes]
        text += (
            f"\nIn {len(minutes)} minutes more with {minutes[0]['clients']} clients, "
            f"{sum(load['answered'] for load in minutes):,} requests were answered and "
            f"{sum(load['other'] for load in minutes)} failed. The p99 of a minute was between "
            f"{min(slowest):,.0f} and {max(slowest):,.0f} ms. The server's memory was "
            f"{memory[0]:.0f} MB after the first minute, {memory[len(memory) // 2]:.0f} MB half "
            f"way, and {memory[-1]:.0f} MB at the end.\n"
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

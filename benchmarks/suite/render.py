"""Render all results, in the order of the README."""

from collections.abc import Callable
from pathlib import Path

from suite.results import Result, load
from suite.sentences import end_to_end_line, footprint_line
from suite.tables import (
    ablations_table,
    host_table,
    latency_table,
    parity_table,
    throughput_table,
)

RENDERERS: dict[str, Callable[[Path, Result], str]] = {
    "throughput": throughput_table,
    "latency": latency_table,
    "parity": parity_table,
    "ablations": ablations_table,
    "end-to-end": end_to_end_line,
    "host": host_table,
    "footprint": footprint_line,
}


def render_all() -> str:
    """Return the results of all kinds in Markdown."""
    return "\n".join(
        render(path, result) for kind, render in RENDERERS.items() for path, result in load(kind)
    )

"""What a person at the terminal sees: log lines, progress, the summary, tables."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from harmless_runtime.artifact import Artifact
from harmless_runtime.demo import DemoRow
from harmless_runtime.pipeline import Summary, Tally
from harmless_runtime.records import STDIN

# Seconds between progress lines where there is no terminal.
_LOG_INTERVAL = 30


class ConsoleHandler(logging.Handler):
    """Logs to a console on lines of their own, above a progress bar if there is one."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record, its level first where it is a warning or worse."""
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            text = f"{record.levelname.lower()}: {text}"
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def set_up_logging(console: Console) -> None:
    """Show the packages' log records from INFO on, on a console."""
    for name in ("harmless_runtime", "harmless_export"):
        logger = logging.getLogger(name)
        logger.handlers = [ConsoleHandler(console)]
        logger.setLevel(logging.INFO)
        logger.propagate = False


class ScoringProgress:
    """Shows how far a run is: a bar on a terminal, a line every so often elsewhere.

    The share done, and so the time left, is measured in bytes of input, since nobody has counted
    the rows; for standard input it is unknown.
    """

    def __init__(self, console: Console, sources: Sequence[str]) -> None:
        self._console = console
        sizes = [Path(s).stat().st_size for s in sources if s != STDIN and Path(s).is_file()]
        self._total = sum(sizes) if len(sizes) == len(sources) else None
        self._start = self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("loading", total=self._total)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def update(self, tally: Tally) -> None:
        """Show a new tally."""
        now = time.monotonic()
        seconds = max(now - self._start, 1e-9)
        text = (
            f"{tally.rows + tally.rejected:,} rows, {tally.rows / seconds:,.1f} rows/s, "
            f"{tally.tokens / seconds:,.0f} tokens/s"
        )
        if self._console.is_terminal:
            self._bar.update(self._task, description=text, completed=tally.input_bytes)
        elif now - self._last_line >= _LOG_INTERVAL:
            self._last_line = now
            left = ""
            if self._total and tally.input_bytes:
                share = min(tally.input_bytes / self._total, 1.0)
                left = f", {share:.0%} done, {seconds / share - seconds:,.0f} s left"
            self._console.print(text + left, highlight=False, soft_wrap=True)


def show_summary(console: Console, summary: Summary) -> None:
    """Print what a finished run did."""
    tally, seconds = summary.tally, max(summary.seconds, 1e-9)
    facts = [
        f"{tally.rows:,} rows",
        f"{tally.tokens:,} tokens",
        f"{summary.seconds:.1f} s",
        f"{tally.rows / seconds:,.1f} rows/s",
        f"{tally.tokens / seconds:,.0f} tokens/s",
        f"padding {tally.padding_share:.1%}",
        f"{tally.truncated:,} truncated",
        f"{tally.rejected:,} rejected",
        f"{summary.provider}, {summary.precision}",
    ]
    if summary.provider == "cuda":
        facts.append(f"{summary.shapes} shapes, {summary.planning_seconds:.1f} s to plan them")
    console.print(" · ".join(facts), highlight=False, soft_wrap=True)


def show_parity(console: Console, artifact: Artifact) -> None:
    """Print an artifact's parity report as a table, a column a runner."""
    manifest = artifact.manifest
    if not manifest.parity:
        console.print(manifest.parity_note, highlight=False, soft_wrap=True)
        return
    first = manifest.parity[0]
    console.print(
        f"{manifest.precision} against PyTorch fp32 on {first.texts} texts, whose scores have a "
        f"standard deviation of {first.score_std:.4g}:",
        highlight=False,
        soft_wrap=True,
    )
    table = Table()
    table.add_column("")
    for report in manifest.parity:
        table.add_column(report.runner, justify="right")
    rows = {
        "largest difference": [f"{r.max_abs:.3g}" for r in manifest.parity],
        "  in standard deviations": [f"{r.relative:.3g}" for r in manifest.parity],
        "  allowed": [f"{r.limit:g}" for r in manifest.parity],
        "mean difference": [f"{r.mean_abs:.3g}" for r in manifest.parity],
        "Pearson correlation": [f"{r.pearson:.7f}" for r in manifest.parity],
        "Spearman correlation": [f"{r.spearman:.7f}" for r in manifest.parity],
        "pairs that change order": [f"{r.reordered} of {r.pairs}" for r in manifest.parity],
    }
    for label, cells in rows.items():
        table.add_row(label, *cells)
    console.print(table)


def show_demo(console: Console, rows: Sequence[DemoRow], count: int = 5) -> None:
    """Print the highest and the lowest rows of a demo."""
    table = Table(
        title=f"the {count} highest and the {count} lowest of {len(rows)} rows", expand=True
    )
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("id", no_wrap=True)
    # What the others leave is shared by these two.
    table.add_column("instruction", no_wrap=True, ratio=1)
    table.add_column("output", no_wrap=True, ratio=1)
    for i, row in enumerate([*rows[:count], *rows[-count:]]):
        table.add_row(
            f"{row.score:.3f}",
            row.id,
            " ".join(row.instruction.split()),
            " ".join(row.output.split()),
            end_section=i == count - 1,
        )
    console.print(table)

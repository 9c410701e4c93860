"""What a person at the terminal sees: log lines, progress, the summary, tables."""

import logging
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from harmless_runtime.demo import DemoRow
from harmless_runtime.model.artifact import Artifact
from harmless_runtime.pipeline import Summary, Tally
from harmless_runtime.rows.records import STDIN

# Seconds between progress lines where there is no terminal.
_LOG_INTERVAL = 30


def say(console: Console, text: str) -> None:
    """Print a line as it is, but for control characters, which may come from an input.

    A terminal would obey them; they are shown as Python writes them.
    """
    safe = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    console.print(safe, markup=False, emoji=False, highlight=False, soft_wrap=True)


class Messages:
    """Standard error, which falls silent where it cannot be written, and so never ends a run."""

    def __init__(self) -> None:
        self._file = sys.stderr
        if self._file is None:  # closed from the start
            self._fall_silent()

    def write(self, text: str) -> int:
        """Write what can be written."""
        try:
            return self._file.write(text)
        except OSError:
            self._fall_silent()
            return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        try:
            self._file.flush()
        except OSError:
            self._fall_silent()

    def _fall_silent(self) -> None:
        # The interpreter's own, too: it flushes that at its end.
        sys.stderr = self._file = Path(os.devnull).open("w")  # noqa: SIM115 - until the end

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


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
        say(self._console, text)


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
        self._first: Tally | None = None
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
        if self._first is None:
            self._first = replace(tally)  # a resumed run begins with what was done before
        seconds = max(now - self._start, 1e-9)
        rows, tokens = tally.rows - self._first.rows, tally.tokens - self._first.tokens
        text = (
            f"{tally.rows + tally.rejected:,} rows, {rows / seconds:,.1f} rows/s, "
            f"{tokens / seconds:,.0f} tokens/s"
        )
        if self._console.is_terminal:
            self._bar.update(self._task, description=text, completed=tally.input_bytes)
        elif now - self._last_line >= _LOG_INTERVAL:
            self._last_line = now
            left = ""
            if self._total and tally.input_bytes:
                share = min(tally.input_bytes / self._total, 1.0)
                fresh = (tally.input_bytes - self._first.input_bytes) / self._total
                rest = f"{seconds * (1 - share) / fresh:,.0f}" if fresh > 0 else "?"
                left = f", {share:.0%} done, {rest} s left"
            say(self._console, text + left)


def show_summary(console: Console, summary: Summary) -> None:
    """Print what a finished run did."""
    tally, before, seconds = summary.tally, summary.resumed, max(summary.seconds, 1e-9)
    facts = [
        f"{tally.rows:,} rows",
        f"{tally.tokens:,} tokens",
        f"{summary.seconds:.1f} s",
        f"{(tally.rows - before.rows) / seconds:,.1f} rows/s",
        f"{(tally.tokens - before.tokens) / seconds:,.0f} tokens/s",
        f"padding {tally.padding_share:.1%}",
        f"{tally.truncated:,} truncated",
        f"{tally.rejected:,} rejected",
        f"{summary.provider}, {summary.precision}",
    ]
    if before.rows or before.rejected:
        facts.insert(1, f"{before.rows + before.rejected:,} of them and of the rejects before")
    say(console, " · ".join(facts))


def show_parity(console: Console, artifact: Artifact) -> None:
    """Print an artifact's parity report as a table, a column a runner."""
    manifest = artifact.manifest
    if not manifest.parity:
        say(console, manifest.parity_note)
        return
    first = manifest.parity[0]
    say(
        console,
        f"{manifest.precision} against PyTorch fp32 on {first.texts} texts, whose scores have a "
        f"standard deviation of {first.score_std:.4g}:",
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

"""Show progress, summaries and tables to a person at the terminal."""

import time
from collections.abc import Iterable
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from harmless_runtime.cli.console import say, say_always, say_hint
from harmless_runtime.model.artifact import Artifact
from harmless_runtime.rows.hints import OTHER_ENCODING
from harmless_runtime.rows.sources import Source
from harmless_runtime.tally import Summary, Tally

# Seconds between two lines of progress, if there is no terminal.
_LOG_INTERVAL = 30


class ScoringProgress:
    """Shows how far a run is: as a bar on a terminal, and elsewhere as a line every 30 seconds.

    The share that is done, and so the time left, is measured in bytes of input, because nobody has
    counted the rows. It is unknown for standard input and pipes.
    """

    def __init__(self, console: Console, sources: Iterable[Source]) -> None:
        self._console = console
        sizes = [source.size for source in sources]
        known = [size for size in sizes if size is not None]
        self._total = sum(known) if len(known) == len(sizes) else None
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

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, tally: Tally) -> None:
        """Show a new tally."""
        now = time.monotonic()
        if self._first is None:
            self._first = tally  # a resumed run begins with what an earlier run did
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
    if tally.without_id:
        facts.insert(-1, f"{tally.without_id:,} without an id")
    if tally.without_system:
        facts.insert(-1, f"{tally.without_system:,} without their system text")
    if tally.with_turns:
        facts.insert(-1, f"{tally.with_turns:,} with turns in the request")
    if tally.lost_end:
        facts.insert(-1, f"{tally.lost_end:,} without their end tokens")
    if tally.with_marks:
        facts.insert(-1, f"{tally.with_marks:,} with marks scored as words")
    if before.rows or before.rejected:
        facts.insert(1, f"{before.rows + before.rejected:,} rows done by an earlier run")
    say(console, " · ".join(facts))


def show_rejects(console: Console, summary: Summary) -> None:
    """Print how many rows could not be scored, where they are, and the commonest reasons."""
    rejected = f"{summary.tally.rejected:,}"
    say_always(console, f"rows that could not be scored: {rejected}, see {summary.rejects}")
    show_reasons(console, summary, "×")


def show_reasons(console: Console, summary: Summary, what: str) -> None:
    """Print the commonest reasons why something could not be scored, with their counts.

    Args:
        console: where to print.
        summary: of the run.
        what: what is counted.
    """
    for reason, count in summary.reasons:
        say_always(console, f"  {count:,} {what} {reason}")
    left = summary.tally.rejected - sum(count for _, count in summary.reasons)
    if summary.reasons and left:
        say_always(console, f"  {left:,} {what} other reasons")
    if any("UTF-8" in reason for reason, _ in summary.reasons):
        say_hint(
            console,
            OTHER_ENCODING,
        )


def show_parity(console: Console, artifact: Artifact) -> None:
    """Print an artifact's parity report as a table with one column for each runner."""
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

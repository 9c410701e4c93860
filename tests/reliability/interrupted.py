"""Runs in small windows that stop in the middle, and are resumed."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harmless_runtime.model.engine import Engine
from harmless_runtime.pipeline import score_files
from harmless_runtime.tally import Summary, Tally
from runs import make_run

COUNT = 400
Sources = Path | Sequence[str | Path]


def row(number: int) -> str:
    """Return a line of input; every fiftieth cannot be scored."""
    if number % 50 == 7:
        return "oops"
    # Ids may be missing or occur twice.
    return json.dumps({"id": number % 5, "instruction": f"Add {number}.", "output": "one " * 9})


def write_rows(path: Path, count: int = COUNT) -> Path:
    """Write so many lines of input."""
    path.write_text("".join(f"{row(n)}\n" for n in range(count)))
    return path


def score(
    sources: Sources,
    out: Path,
    engine: Engine,
    on_progress: Callable[[Tally], None] = lambda _: None,
    **options: Any,
) -> Summary:
    """Score with a commit after every window."""
    run = make_run(sources, out, **({"commit_seconds": 0.0} | options))
    return score_files(run, engine, on_progress)


def resume(sources: Sources, out: Path, engine: Engine, **options: Any) -> Summary:
    """Continue a run, or start it."""
    return score(sources, out, engine, existing="resume", **options)


class StopError(Exception):
    """Raised in the middle of a run."""


def stop_after(rows: int, sources: Sources, out: Path, engine: Engine, **options: Any) -> None:
    """Score until so many rows are done."""

    def progress(tally: Tally) -> None:
        if tally.rows >= rows:
            raise StopError

    with pytest.raises(StopError):
        score(sources, out, engine, progress, **options)

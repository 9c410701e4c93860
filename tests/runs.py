"""Make runs and engines for tests of what happens in this process."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harmless_runtime.config import make_config
from harmless_runtime.model.engine import Engine
from harmless_runtime.model.load import load_engine
from harmless_runtime.rows.inputs import open_inputs
from harmless_runtime.rows.shapes import Reading
from harmless_runtime.run import Run


def make_run(
    sources: Path | Sequence[str | Path],
    output: Path,
    reading: Reading | None = None,
    **options: Any,
) -> Run:
    """Return a run over one source or several."""
    several = [sources] if isinstance(sources, Path) else sources
    return Run(open_inputs([str(source) for source in several], reading), output, **options)


def cpu_engine(model: str | Path = "demo", **limits: Any) -> Engine:
    """Load a model on the CPU, by default the bundled one, with some limits replaced."""
    return with_limits(load_engine(make_config({"model": str(model), "provider": "cpu"})), **limits)


def with_limits(engine: Engine, **limits: Any) -> Engine:
    """Return an engine with some limits replaced."""
    return replace(engine, limits=replace(engine.limits, **limits))

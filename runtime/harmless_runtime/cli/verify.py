"""Run `harmless verify`."""

from pathlib import Path
from typing import Any

from rich.console import Console

from harmless_runtime.cli.display import show_parity
from harmless_runtime.cli.extras import need_export_extra
from harmless_runtime.model.artifact import open_artifact


def run(console: Console, artifact: Path, **options: Any) -> None:
    """Measure an artifact's parity again, and print it."""
    need_export_extra(f"harmless verify {artifact}")
    from harmless_export import verify_artifact

    show_parity(console, verify_artifact(open_artifact(artifact), **options))

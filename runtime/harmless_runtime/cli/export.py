"""Run `harmless export`."""

from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from harmless_runtime.cli.display import show_parity
from harmless_runtime.cli.extras import need_export_extra


def run(console: Console, model: str, out: Path, **options: Any) -> None:
    """Export a checkpoint, print its parity report, and print the artifact's path on stdout."""
    need_export_extra(f"harmless export {model}")
    from harmless_export import export_checkpoint

    artifact = export_checkpoint(model, out, **options)
    show_parity(console, artifact)
    typer.echo(artifact.folder)

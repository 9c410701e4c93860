"""Run `harmless models`: list the exports in the cache, and remove them."""

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harmless_runtime.cache import cache_folder
from harmless_runtime.cli.console import say
from harmless_runtime.errors import ArtifactError, ConfigError
from harmless_runtime.model.artifact import is_artifact, open_artifact


def run(console: Console, remove: Sequence[str]) -> None:
    """List the cached exports, or remove those that are named.

    Raises:
        ConfigError: there is no export of a name that is to be removed.
    """
    folder = cache_folder()
    found = {path.name: path for path in _exports(folder)}
    if remove:
        _remove(console, found, remove)
        return
    if not found:
        say(console, f"there are no exports in {folder}")
        return
    table = Table(title=str(folder), title_justify="left")
    # Names are copied to be removed, so they stay on one line.
    table.add_column("name", min_width=max(map(len, found)), no_wrap=True)
    for name in ("checkpoint", "precision", "size", "made"):
        table.add_column(name, justify="right" if name == "size" else "left", overflow="fold")
    for name, path in found.items():
        size = f"{sum(file.stat().st_size for file in path.iterdir()) / 1e9:.2f} GB"
        made = f"{datetime.fromtimestamp(path.stat().st_mtime, UTC):%Y-%m-%d}"
        table.add_row(*map(escape, (name, *_facts(path), size, made)))
    Console().print(table)


def _facts(path: Path) -> tuple[str, str]:
    """Return an export's checkpoint and precision."""
    try:
        manifest = open_artifact(path, check_files=False).manifest
    except ArtifactError as error:
        return f"damaged: {error}", ""
    return manifest.source, manifest.precision


def _exports(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if is_artifact(path))


def _remove(console: Console, found: dict[str, Path], names: Sequence[str]) -> None:
    missing = [name for name in names if name not in found]
    if missing:
        raise ConfigError(
            f"there is no export {missing[0]} in the cache", "harmless models lists them"
        )
    for name in names:
        shutil.rmtree(found[name])
        say(console, f"removed {name}")

"""Run `harmless report`."""

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from harmless_runtime.cli.console import say
from harmless_runtime.errors import ConfigError, InputError, OutputError
from harmless_runtime.output import disk
from harmless_runtime.report.charts import need_vl_convert
from harmless_runtime.report.comparison import make_comparison
from harmless_runtime.report.report import make_report
from harmless_runtime.report.scored_rows import open_scored_rows
from harmless_runtime.run import without_parents


def run(
    console: Console,
    scores: Sequence[str],
    out: Path,
    *,
    rows: Sequence[str],
    by: str | None,
    overwrite: bool,
) -> None:
    """Write the page about one output or two.

    Raises:
        ConfigError: more than two outputs are named, or `by` with two; or a package is missing.
        OutputError: the page exists.
    """
    if len(scores) > 2:
        raise ConfigError(f"{len(scores)} outputs are named, and at most two can be compared")
    if len(scores) == 2 and by is not None:
        raise ConfigError("two outputs are compared row by row", "leave `by` out")
    need_vl_convert()
    out = without_parents(out)
    if str(out) != "-":
        _check_page(out, overwrite=overwrite)
    elif sys.stdout.isatty():
        raise ConfigError("the page would be written to the terminal", "name a file")
    opened = [open_scored_rows(name, rows, by) for name in scores]
    if rows and all(each.run is None for each in opened):
        raise InputError(f"{scores[0]} holds rows joined with their scores", "leave `rows` out")
    read = [path for each in opened for path in each.files]
    if any(_is_same(path, out) for path in read):
        raise OutputError(f"{out} is read for the report", "name another file for the page")
    page = make_report(opened[0]) if len(opened) == 1 else make_comparison(*opened)
    if str(out) == "-":
        sys.stdout.buffer.write(page)
        return
    with disk.os_errors_named(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        # No other file has a name in a folder of its own.
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".report.") as folder:
            made = Path(folder, "page")
            made.write_bytes(page)
            made.replace(out)
    say(console, f"{os.fspath(out)}: {len(page) / 1e6:.2f} MB, to be opened in a browser")


def _is_same(path: Path, out: Path) -> bool:
    """Return whether two paths are of one file, which may not exist yet."""
    if path.exists() and out.exists():
        return path.samefile(out)
    return path.absolute() == out.absolute()


def _check_page(out: Path, *, overwrite: bool) -> None:
    """Raise OutputError if the page cannot be written under its name."""
    if out.is_dir():
        raise OutputError(f"{out} is a folder", "name a file")
    if out.is_symlink() or (out.exists() and not out.is_file()):
        raise OutputError(f"{out} is not a regular file", "name another file")
    if out.exists() and not overwrite:
        raise OutputError(f"{out} already exists", "`overwrite` replaces it; or name another file")

"""Print messages on standard error, so that none can harm the terminal or the run."""

import logging
import os
import sys
from pathlib import Path
from typing import IO, Any, cast

from rich.console import Console

from harmless_runtime.cli import verbosity
from harmless_runtime.cli.failures import settings_as_flags


class StandardError:
    """Standard error, which falls silent if it cannot be written, and so never ends a run."""

    def __init__(self) -> None:
        self._file = sys.stderr
        if self._file is None:  # closed from the start
            self._fall_silent()

    def write(self, text: str) -> int:
        """Write a text, or nothing if that fails."""
        try:
            return self._file.write(text)
        except OSError:
            self._fall_silent()
            return len(text)

    def flush(self) -> None:
        """Flush what was written, or nothing if that fails."""
        try:
            self._file.flush()
        except OSError:
            self._fall_silent()

    def _fall_silent(self) -> None:
        # The interpreter's own stream is replaced too, because it is flushed at the end.
        sys.stderr = self._file = Path(os.devnull).open("w")  # noqa: SIM115 - open until the end

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def make_console() -> Console:
    """Return a console on standard error that shows the log of this project's packages."""
    console = Console(file=cast("IO[str]", StandardError()), quiet=verbosity.quiet)
    for name in ("harmless_runtime", "harmless_export"):
        logger = logging.getLogger(name)
        logger.handlers = [ConsoleHandler(console)]
        logger.setLevel(logging.DEBUG if verbosity.verbose else logging.INFO)
        logger.propagate = False
    # It logs a traceback of what it raises as well.
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
    return console


def say(console: Console, text: str) -> None:
    """Print one line as it is.

    Control characters, which may come from an input, are shown as Python writes them, because a
    terminal would obey them.
    """
    safe = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    console.print(safe, markup=False, emoji=False, highlight=False, soft_wrap=True)


def say_always(console: Console, text: str) -> None:
    """Print one line as it is, also if a person wants to read little."""
    before, console.quiet = console.quiet, False
    try:
        say(console, text)
    finally:
        console.quiet = before


def say_hint(console: Console, text: str) -> None:
    """Print what to do about the message before, on a line of its own."""
    say_always(console, f"hint: {text}")


class ConsoleHandler(logging.Handler):
    """Prints log records on lines of their own, above a progress bar if there is one."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record. A warning or an error begins with its level."""
        text = settings_as_flags(record.getMessage())
        if record.levelno < logging.WARNING:
            say(self._console, text)
        else:
            say_always(self._console, f"{record.levelname.lower()}: {text}")

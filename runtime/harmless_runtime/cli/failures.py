"""Turn errors and signals into messages and exit codes.

It imports little, because `harmless --help` waits for it.
"""

import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from harmless_runtime.cli import verbosity

if TYPE_CHECKING:
    from rich.console import Console

# A process that a signal ends has the exit code 128 plus the signal's number, as in shells.
EXIT_FAILED, EXIT_USAGE, EXIT_REJECTS = 1, 2, 3


def run_command(command: Callable[[], object]) -> None:
    """Run a command line. If SIGINT or SIGTERM ends it, exit with 128 plus its number."""
    try:
        command()
    finally:
        for each in (signal.SIGINT, signal.SIGTERM):
            # A signal after the end changes nothing. While it shuts down, Python takes its own
            # handlers away, but leaves SIG_IGN.
            signal.signal(each, signal.SIG_IGN)
        if _signals:
            sys.exit(128 + _signals[0])


@contextmanager
def terminal() -> Iterator["Console"]:
    """Give a console on standard error, and turn exceptions into a message and an exit code.

    From here on, the first signal raises an exception. Before, it ends the process at once.
    """
    from harmless_runtime.cli.console import make_console, say_always, say_hint
    from harmless_runtime.errors import ConfigError, HarmlessError

    console = make_console()
    try:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, _end)
        yield console
    except HarmlessError as error:
        if verbosity.verbose:
            console.print_exception()
        say_always(console, f"error: {error}")
        if error.hint:
            say_hint(console, settings_as_flags(error.hint))
        code = EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED
        raise typer.Exit(code) from None
    except OSError as error:
        say_always(console, f"error: {_in_words(error)}")
        raise typer.Exit(EXIT_FAILED) from None
    except BaseException:
        # An interrupt may come out of an import as another exception.
        if not _signals:
            raise
        say_always(console, "interrupted" if _signals[0] == signal.SIGINT else "terminated")
        raise typer.Exit(128 + _signals[0]) from None


def _in_words(error: OSError) -> str:
    """Return what the operating system says, and the name that it says it of."""
    if error.filename:
        return f"{error.filename}: {error.strerror or error}"
    try:
        Path.cwd()
    except FileNotFoundError:
        return "the current folder was removed"
    return error.strerror or str(error)


def settings_as_flags(text: str) -> str:
    """Replace the settings in a hint or a log line by their flags: `max_length` by --max-length.

    The library does not know of flags, and writes the names of settings in backticks.
    """
    return re.sub(r"`(\w+)`", lambda match: "--" + match[1].replace("_", "-"), text)


# The signal that ends this process, once it has come.
_signals: list[int] = []


class _Interrupt(KeyboardInterrupt):
    """What a signal raises.

    Python ends by SIGINT, whatever the exit code, if KeyboardInterrupt itself came out of a text
    that it has executed, as many modules do while they are imported.
    """


def _ignore(_number: int, _frame: object) -> None:
    pass


def _end(number: int, _frame: object) -> None:
    """Raise a KeyboardInterrupt on the first signal.

    Later signals are ignored, so that the last commit can finish.
    """
    for each in (signal.SIGINT, signal.SIGTERM):
        # Not SIG_IGN: Python complains of a signal that came just before it.
        signal.signal(each, _ignore)
    _signals.append(number)
    raise _Interrupt

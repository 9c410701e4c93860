"""How a command ends: errors as one sentence, signals, exit codes, and the way to go on.

It imports little, because `harmless --help` waits for it.
"""

import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import typer

if TYPE_CHECKING:
    from rich.console import Console

# A signal ends with 128 and its number, as shells count.
EXIT_FAILED, EXIT_USAGE, EXIT_REJECTS = 1, 2, 3


def run(command: Callable[[], object]) -> None:
    """Run a command line that SIGINT and SIGTERM end with the exit code that shells know."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _end)
    try:
        command()
    except BaseException:
        if _signals:  # before or after a command had the means to tell
            sys.exit(128 + _signals[0])
        raise


@contextmanager
def terminal() -> Iterator["Console"]:
    """Give a console on stderr, and turn errors into one sentence and an exit code."""
    from rich.console import Console

    from harmless_runtime.cli.display import Messages, say, set_up_logging
    from harmless_runtime.errors import ConfigError, HarmlessError

    console = Console(file=cast("IO[str]", Messages()))
    set_up_logging(console)
    try:
        yield console
    except HarmlessError as error:
        say(console, f"error: {error}")
        code = EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED
        raise typer.Exit(code) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        say(console, f"error: {where}{error.strerror or error}")
        raise typer.Exit(EXIT_FAILED) from None
    except BaseException:
        # An interrupt may come out of an import as another exception.
        if not _signals:
            raise
        say(console, "interrupted" if _signals[0] == signal.SIGINT else "terminated")
        raise typer.Exit(128 + _signals[0]) from None


# The signal that ends this process, once it has come.
_signals: list[int] = []


def _pass(_number: int, _frame: object) -> None:
    pass


def _end(number: int, _frame: object) -> None:
    """End as an interrupt does, once: what then is committed is not to be disturbed."""
    for each in (signal.SIGINT, signal.SIGTERM):
        # Not SIG_IGN: Python complains of a signal that came just before it.
        signal.signal(each, _pass)
    _signals.append(number)
    raise KeyboardInterrupt


@contextmanager
def resumable(console: "Console", out: Path) -> Iterator[None]:
    """Tell how to go on with a run that ends early, if it can be gone on with."""
    from harmless_runtime.errors import OutputError

    try:
        yield
    except OutputError as error:
        # Of a state that is not this run's, it has said what there is to say.
        if isinstance(error.__cause__, OSError):
            _tell_how_to_resume(console, out)
        raise
    except BaseException:
        _tell_how_to_resume(console, out)
        raise


def _tell_how_to_resume(console: "Console", out: Path) -> None:
    from harmless_runtime.cli.display import say
    from harmless_runtime.errors import OutputError
    from harmless_runtime.output.paths import OutputPaths
    from harmless_runtime.output.state import read_state

    try:
        state = read_state(OutputPaths(out).state)
    except OutputError:  # it has been said
        return
    if state is None:
        say(console, "nothing was committed yet, so there is nothing to resume")
        return
    if not all(argument.isprintable() for argument in sys.argv):
        say(console, f"the first {state.lines:,} lines are done and kept; --resume goes on")
        return
    name, *arguments = [a for a in sys.argv[1:] if a not in ("--resume", "--overwrite")]
    command = shlex.join(["harmless", name, "--resume", *arguments])
    say(console, f"the first {state.lines:,} lines are done and kept; to go on: {command}")

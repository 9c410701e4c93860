"""Say how to continue a run that ends early."""

import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from harmless_runtime.cli.console import say, say_hint
from harmless_runtime.errors import ChangedError, HarmlessError, OutputError, StrictError
from harmless_runtime.output.checks import goes_on
from harmless_runtime.output.paths import OutputPaths
from harmless_runtime.output.publish import is_staged
from harmless_runtime.output.state import read_state
from harmless_runtime.run import Run

# What has to be given again after an input has changed, and what to do with what it is now.
_AS_IT_WAS = "the input as it was, and "
_AS_IT_IS = "or start again with the input as it is now: --overwrite"


@contextmanager
def resumable(console: Console, asked: Run) -> Iterator[None]:
    """Say how to continue a run that ends early, if it can be continued."""
    try:
        yield
    except OutputError as error:
        # Add the hint for I/O errors only. Errors about a damaged or foreign state already say
        # what to do.
        if isinstance(error.__cause__, OSError):
            _say_how_to_resume(console, asked)
        raise
    except StrictError:
        _say_how_to_resume(console, asked, "--strict")
        raise
    except ChangedError:
        _say_how_to_resume(console, asked, again=_AS_IT_WAS)
        say_hint(console, _AS_IT_IS)
        raise
    except BaseException as error:
        # An error that comes before the first result says by itself what is wrong.
        if not isinstance(error, HarmlessError) or goes_on(replace(asked, existing="resume")):
            _say_how_to_resume(console, asked)
        raise


@contextmanager
def resumable_on_ray(console: Console, asked: Run) -> Iterator[None]:
    """Say the same of a run on Ray."""
    try:
        yield
    except BaseException as error:
        pieces = OutputPaths(asked.output, asked.is_folder).pieces
        if (pieces / "manifest.jsonl").exists() and _can_go_on(error):
            say(console, f"finished pieces are kept in {pieces}")
            is_changed = isinstance(error, ChangedError)
            _hint_to_resume(console, _AS_IT_WAS if is_changed else "")
            if is_changed:
                say_hint(console, _AS_IT_IS)
        raise


def _can_go_on(error: BaseException) -> bool:
    """Return whether a run on Ray that an error has ended can be resumed as it is."""
    if isinstance(error, OutputError):
        return isinstance(error.__cause__, OSError)
    return not isinstance(error, HarmlessError) or "overwrite" not in (error.hint or "")


def _say_how_to_resume(console: Console, asked: Run, without: str = "", again: str = "") -> None:
    """Say how to continue, with the options of this command, or `without` one of them.

    Args:
        console: where to say it.
        asked: the run.
        without: an option that has to be left out.
        again: what else is needed, besides the same standard input.
    """
    try:
        state = read_state(OutputPaths(asked.output, asked.is_folder).state)
    except OutputError:  # the run's own error tells about the state
        return
    if state is None and not is_staged(asked):
        if not without:
            say(console, "no results are on the disk yet, so there is nothing to resume")
        return
    if state is None:
        say(console, f"the results are whole, but not yet all in {asked.name}")
    elif state.lines:
        say(console, f"the results of the first {state.lines:,} lines are on the disk")
    stdin = "the same standard input and " if asked.reads_stdin else ""
    _hint_to_resume(console, again or stdin, without)


def _hint_to_resume(console: Console, again: str = "", without: str = "") -> None:
    if all(argument.isprintable() for argument in sys.argv):
        changed = ("--resume", "--overwrite", without)
        name, *arguments = [a for a in sys.argv[1:] if a not in changed]
        command = shlex.join([_own_name(), name, "--resume", *arguments])
        say_hint(console, f"continue with {again}{command}")
    else:
        less = f", without {without}" if without else ""
        say_hint(console, f"continue with {again}the same command and --resume{less}")


def _own_name() -> str:
    """Return how a person calls this command: by its name, or by its path if it is not found."""
    program = Path(sys.argv[0])
    found = shutil.which("harmless")
    if program.name != "harmless" or (found and Path(found).resolve() == program.resolve()):
        return "harmless"
    return str(program)

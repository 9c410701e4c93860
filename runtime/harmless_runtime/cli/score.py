"""Run `harmless score`."""

import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from harmless_runtime.cli.console import say, say_hint
from harmless_runtime.cli.display import ScoringProgress, show_summary
from harmless_runtime.cli.failures import EXIT_REJECTS
from harmless_runtime.config import load_config
from harmless_runtime.errors import ConfigError, OutputError
from harmless_runtime.model.load import load_engine
from harmless_runtime.output.checks import check_output
from harmless_runtime.output.paths import OutputPaths
from harmless_runtime.output.state import read_state
from harmless_runtime.pipeline import score_files
from harmless_runtime.rows.sources import STDIN, find_source
from harmless_runtime.run import Run, existing_mode


@dataclass(frozen=True)
class Arguments:
    """What the command line says. `flags` are the settings that win over the file `config`."""

    inputs: list[str]
    out: Path
    config: Path | None
    flags: dict[str, Any]
    overwrite: bool
    resume: bool
    strict: bool
    details: bool


def run(console: Console, arguments: Arguments) -> None:
    """Score the inputs, and print what was done.

    Raises:
        typer.Exit: some rows were rejected.
    """
    config = load_config(arguments.config, arguments.flags)
    asked = make_run(arguments)
    # The output is checked before the model is loaded or exported, which can take minutes.
    check_output(asked)
    engine = load_engine(config)
    with resumable(console, asked), ScoringProgress(console, asked.sources) as progress:
        summary = score_files(asked, engine, progress.update)
    show_summary(console, summary)
    if summary.tally.rejected:
        rejected = f"{summary.tally.rejected:,}"
        say(console, f"rows that could not be scored: {rejected}, see {summary.rejects}")
        raise typer.Exit(EXIT_REJECTS)


def make_run(arguments: Arguments) -> Run:
    """Turn the command line into a run.

    Raises:
        ConfigError: options contradict each other.
        InputError: an input cannot be read.
    """
    if str(arguments.out) == STDIN:
        raise ConfigError(
            "the output cannot be standard output, because it appears only when it is complete",
            "name a file",
        )
    existing = existing_mode(overwrite=arguments.overwrite, resume=arguments.resume)
    sources = tuple(map(find_source, arguments.inputs))
    return Run(sources, arguments.out, existing, arguments.strict, arguments.details)


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
    except BaseException:
        _say_how_to_resume(console, asked)
        raise


def _say_how_to_resume(console: Console, asked: Run) -> None:
    try:
        state = read_state(OutputPaths(asked.output).state)
    except OutputError:  # the run's own error tells about the state
        return
    if state is None:
        say(console, "no results are on the disk yet, so there is nothing to resume")
        return
    if state.lines:
        say(console, f"the results of the first {state.lines:,} lines are on the disk")
    again = "the same standard input and " if asked.reads_stdin else ""
    if all(argument.isprintable() for argument in sys.argv):
        name, *arguments = [a for a in sys.argv[1:] if a not in ("--resume", "--overwrite")]
        command = shlex.join([_own_name(), name, "--resume", *arguments])
        say_hint(console, f"continue with {again}{command}")
    else:
        say_hint(console, f"continue with {again}the same command and --resume")


def _own_name() -> str:
    """Return how a person calls this command: by its name, or by its path if it is not found."""
    program = Path(sys.argv[0])
    found = shutil.which("harmless")
    if program.name != "harmless" or (found and Path(found).resolve() == program.resolve()):
        return "harmless"
    return str(program)

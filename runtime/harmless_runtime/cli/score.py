"""Run `harmless score`."""

import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from harmless_runtime.choices import EngineName
from harmless_runtime.cli.console import say, say_always, say_hint
from harmless_runtime.cli.display import ScoringProgress, show_rejects, show_summary
from harmless_runtime.cli.dry_run import show_dry_run
from harmless_runtime.cli.failures import EXIT_REJECTS
from harmless_runtime.cli.spread import show_spread
from harmless_runtime.config import ScorerConfig, load_config
from harmless_runtime.errors import ConfigError, HarmlessError, OutputError
from harmless_runtime.model.load import load_engine
from harmless_runtime.output.checks import check_output, goes_on
from harmless_runtime.output.paths import OutputPaths
from harmless_runtime.output.publish import is_staged
from harmless_runtime.output.state import read_state
from harmless_runtime.pipeline import score_files
from harmless_runtime.rows.inputs import open_inputs
from harmless_runtime.rows.shapes import reading_of
from harmless_runtime.run import Run, existing_mode, join_column, output_named
from harmless_runtime.tally import Summary


@dataclass(frozen=True)
class Arguments:
    """What the command line says. `flags` are the settings that win over the file `config`."""

    inputs: list[str]
    out: str | None
    config: Path | None
    flags: dict[str, Any]
    overwrite: bool
    resume: bool
    strict: bool
    details: bool
    join: bool
    score_column: str | None
    dry_run: bool
    engine: EngineName = "local"
    workers: int | None = None
    address: str | None = None
    all_devices: bool = False


def run(console: Console, arguments: Arguments) -> None:
    """Score the inputs, and print what was done.

    Raises:
        typer.Exit: some rows were rejected.
    """
    config = load_config(arguments.config, settings_of(arguments.flags))
    for_ray = arguments.workers or arguments.address or arguments.all_devices
    if arguments.engine == "local" and for_ray:
        raise ConfigError(
            "workers, address and all devices are for Ray", "set `engine` to ray, or leave it out"
        )
    if arguments.all_devices:
        if config.provider not in ("auto", "cuda"):
            raise ConfigError(f"device is all, which means GPUs, and provider {config.provider}")
        config = config.model_copy(update={"provider": "cuda"})
    if arguments.dry_run:
        console.quiet = False  # it is all that a dry run gives
        show_dry_run(console, open_inputs(arguments.inputs, reading_of(config)), config)
        if arguments.engine == "ray":
            say(console, "that is the speed of one process here; Ray has one for each worker")
        return
    asked = make_run(arguments, config)
    # The output and the rows are checked before the model is loaded or exported, which can take
    # minutes.
    check_output(asked)
    asked.inputs.shape(refuse=not goes_on(asked))
    if arguments.engine == "ray":
        summary = _on_ray(console, arguments, asked, config)
    else:
        _give_up_pieces(asked)
        engine = load_engine(config, for_many_rows=True)
        with (
            resumable(console, asked),
            ScoringProgress(console, asked.inputs.sources) as progress,
        ):
            summary = score_files(asked, engine, progress.update)
    if summary.is_old:
        tally = summary.tally
        rejected = f" {tally.rejected:,} rejected," if tally.rejected else ""
        say(console, f"already complete: {tally.rows:,} rows scored,{rejected} in {summary.output}")
        return
    if show_spread(console, summary.scores) and asked.url is None:
        name = shlex.quote(asked.name)
        say(console, f"  to look at the rows: harmless report {name} -o report.html")
    show_summary(console, summary)
    if summary.tally.rejected:
        show_rejects(console, summary)
        raise typer.Exit(EXIT_REJECTS)
    if not summary.tally.rows:
        say_always(console, "warning: the inputs hold no rows")


def _on_ray(console: Console, arguments: Arguments, asked: Run, config: ScorerConfig) -> Summary:
    """Score on Ray, and say how to go on if that ends early."""
    from harmless_runtime.cluster.connection import Resources
    from harmless_runtime.cluster.driver import score_on_ray

    resources = Resources(arguments.workers, arguments.address)
    try:
        with ScoringProgress(console, asked.inputs.sources) as progress:
            return score_on_ray(asked, config, resources, progress.update)
    except BaseException as error:
        pieces = OutputPaths(asked.output, asked.is_folder).pieces
        if (pieces / "manifest.jsonl").exists() and _can_go_on(error):
            say(console, f"finished pieces are kept in {pieces}")
            _hint_to_resume(console)
        raise


def _can_go_on(error: BaseException) -> bool:
    """Return whether a run on Ray that an error has ended can be resumed as it is."""
    if isinstance(error, OutputError):
        return isinstance(error.__cause__, OSError)
    return not isinstance(error, HarmlessError) or "overwrite" not in (error.hint or "")


def _give_up_pieces(asked: Run) -> None:
    """See to what an interrupted run on Ray has left, if there is anything."""
    if OutputPaths(asked.output, asked.is_folder).pieces.is_dir():
        from harmless_runtime.cluster.leftovers import remove_pieces

        remove_pieces(asked)


def settings_of(flags: dict[str, Any]) -> dict[str, Any]:
    """Turn the text of --columns into a mapping, as the YAML file has it.

    Raises:
        ConfigError: the text is not a list of NAME=FIELD.
    """
    text = flags["columns"]
    if text is None:
        return flags
    pairs = [part.split("=", 1) for part in text.split(",")]
    if not all(len(pair) == 2 for pair in pairs):
        raise ConfigError(
            f"columns is {text!r}, and has to be like instruction=prompt,output=response"
        )
    names = [name.strip() for name, _ in pairs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(
            f"columns names {twice} twice",
            "score each field in a run of its own, into its own file",
        )
    return flags | {"columns": dict(zip(names, (path.strip() for _, path in pairs), strict=True))}


def make_run(arguments: Arguments, config: ScorerConfig) -> Run:
    """Turn the command line into a run.

    Raises:
        ConfigError: options contradict each other.
        InputError: an input cannot be read.
    """
    if arguments.out is None:
        raise ConfigError("no output is named", "`out` names the file of scores: -o scores.jsonl")
    named = output_named(arguments.out)
    inputs = open_inputs(arguments.inputs, reading_of(config))
    return Run(
        inputs,
        named.output,
        existing_mode(overwrite=arguments.overwrite, resume=arguments.resume),
        named.is_folder,
        named.url,
        join_column(arguments.score_column, join=arguments.join, details=arguments.details),
        arguments.strict,
        arguments.details,
    )


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
    except BaseException as error:
        # An error that comes before the first result says by itself what is wrong.
        if not isinstance(error, HarmlessError) or goes_on(replace(asked, existing="resume")):
            _say_how_to_resume(console, asked)
        raise


def _say_how_to_resume(console: Console, asked: Run) -> None:
    try:
        state = read_state(OutputPaths(asked.output, asked.is_folder).state)
    except OutputError:  # the run's own error tells about the state
        return
    if state is None and not is_staged(asked):
        say(console, "no results are on the disk yet, so there is nothing to resume")
        return
    if state is None:
        say(console, f"the results are whole, but not yet all in {asked.name}")
    elif state.lines:
        say(console, f"the results of the first {state.lines:,} lines are on the disk")
    _hint_to_resume(console, "the same standard input and " if asked.reads_stdin else "")


def _hint_to_resume(console: Console, again: str = "") -> None:
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

"""Run `harmless score`."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from harmless_runtime.choices import EngineName
from harmless_runtime.cli.console import say
from harmless_runtime.cli.display import ScoringProgress, show_rejects, show_summary
from harmless_runtime.cli.dry_run import show_dry_run
from harmless_runtime.cli.failures import EXIT_REJECTS
from harmless_runtime.cli.resuming import resumable, resumable_on_ray
from harmless_runtime.cli.spread import show_spread
from harmless_runtime.config import ScorerConfig, checked_settings, read_yaml, with_flags
from harmless_runtime.errors import ConfigError
from harmless_runtime.model.load import load_engine
from harmless_runtime.output.checks import check_output, goes_on
from harmless_runtime.output.paths import OutputPaths
from harmless_runtime.pipeline import score_files
from harmless_runtime.rows.inputs import open_inputs
from harmless_runtime.rows.shapes import reading_of
from harmless_runtime.run import Run, existing_mode, join_column, output_named
from harmless_runtime.tally import Summary


@dataclass(frozen=True)
class Arguments:
    """What the command line says. `flags` are the settings that win over the file `config`.

    Without an `engine`, one is chosen by what else is asked for.
    """

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
    engine: EngineName | None = None
    workers: int | None = None
    address: str | None = None
    all_devices: bool = False


def run(console: Console, arguments: Arguments) -> None:
    """Score the inputs, or those of a job, and print what was done.

    Raises:
        typer.Exit: some rows were rejected.
    """
    # The file is read once, because it may be a pipe.
    loaded = {} if arguments.config is None else read_yaml(arguments.config)
    if arguments.config is not None and "scorers" in loaded:
        from harmless_runtime.cli.job import run_job
        from harmless_runtime.jobs.job import make_job

        all_scored = run_job(console, arguments, make_job(arguments.config, loaded))
    else:
        settings = checked_settings(loaded, str(arguments.config))
        all_scored = score(console, arguments, with_flags(settings, arguments.flags))
    if not all_scored:
        raise typer.Exit(EXIT_REJECTS)


def score(console: Console, arguments: Arguments, config: ScorerConfig) -> bool:
    """Score the inputs, and print what was done.

    Returns:
        False if rows were rejected, and True otherwise, or if the output was complete already.

    Raises:
        HarmlessError: the run cannot be begun, or ends early.
    """
    if not arguments.inputs:
        raise ConfigError(
            "no input is named", "harmless score rows.jsonl -o scores.jsonl scores a file"
        )
    for_ray = arguments.workers or arguments.address or arguments.all_devices
    on_ray = arguments.engine == "ray" or (arguments.engine is None and bool(for_ray))
    if for_ray and not on_ray:
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
        if on_ray:
            say(console, "that is the speed of one process here; Ray has one for each worker")
        return True
    asked = make_run(arguments, config)
    # The output and the rows are checked before the model is loaded or exported, which can take
    # minutes.
    check_output(asked)
    asked.inputs.shape(refuse=not goes_on(asked))
    if on_ray:
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
        return True
    is_part = bool(summary.resumed.rows) and not on_ray  # Ray's results are all put together
    if show_spread(console, summary.scores, is_part=is_part) and asked.url is None:
        name = shlex.quote(asked.name)
        say(console, f"  to look at the rows: harmless report {name} -o report.html")
    show_summary(console, summary)
    if summary.tally.rejected:
        show_rejects(console, summary)
    return not summary.tally.rejected


def _on_ray(console: Console, arguments: Arguments, asked: Run, config: ScorerConfig) -> Summary:
    """Score on Ray."""
    from harmless_runtime.cluster.connection import Resources
    from harmless_runtime.cluster.driver import score_on_ray

    resources = Resources(arguments.workers, arguments.address)
    with (
        resumable_on_ray(console, asked),
        ScoringProgress(console, asked.inputs.sources) as progress,
    ):
        return score_on_ray(asked, config, resources, progress.update)


def _give_up_pieces(asked: Run) -> None:
    """See to what an interrupted run on Ray has left, if there is anything."""
    if OutputPaths(asked.output, asked.is_folder).pieces.is_dir():
        from harmless_runtime.cluster.leftovers import remove_pieces

        remove_pieces(asked)


def make_run(arguments: Arguments, config: ScorerConfig) -> Run:
    """Turn the command line into a run.

    Raises:
        ConfigError: options contradict each other.
        InputError: an input cannot be read.
    """
    if arguments.out is None:
        raise ConfigError("no output is named", "`out` names the file of scores: -o scores.jsonl")
    named = output_named(arguments.out)
    reading = replace(reading_of(config), refuse_marks=arguments.strict)
    inputs = open_inputs(arguments.inputs, reading)
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

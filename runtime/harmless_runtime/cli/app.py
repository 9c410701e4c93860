"""Define the command `harmless`: its subcommands, and what `--help` says about them.

Each subcommand parses its arguments, and calls `run` of the module that has its name. That module
is imported then, because `harmless --help` should not wait for onnxruntime.
"""

from typing import Annotated

import typer

from harmless_runtime import __version__
from harmless_runtime.cli import options
from harmless_runtime.cli.failures import run_command, terminal

app = typer.Typer(
    help="Score how harmless instruction/response pairs are, with a GPT-2 reward model.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # it cuts off the names of options if the terminal is narrow
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"harmless-scorer {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


@app.command(short_help="Score bundled rows with a bundled tiny model.")
def demo() -> None:
    """Score bundled rows with the bundled tiny model: no download, no torch."""
    with terminal():
        from harmless_runtime.cli.demo import run

        run()


@app.command(short_help="Turn a checkpoint into an ONNX artifact, and verify it.")
def export(
    model: options.Checkpoint,
    out: options.ArtifactOut,
    precision: options.ExportPrecision = "fp32",
    revision: options.Revision = None,
    max_length: options.ExportLength = None,
    verify: options.Verify = True,
    parity_limit: options.ParityLimit = None,
    allow_pickle: options.AllowPickle = None,
    force: options.Force = False,
) -> None:
    """Turn a GPT-2 reward checkpoint into an ONNX artifact, and verify it against PyTorch."""
    with terminal() as console:
        from harmless_runtime.cli.export import run

        run(
            console,
            model,
            out,
            precision=precision,
            revision=revision,
            max_length=max_length,
            verify=verify,
            parity_limit=parity_limit,
            allow_pickle=bool(allow_pickle),
            force=force,
        )


@app.command(short_help="Compare an artifact with PyTorch again.")
def verify(
    artifact: options.Artifact,
    checkpoint: options.CheckpointOfArtifact = None,
    provider: options.Provider = None,
    device: options.Device = None,
    compute: options.Compute = None,
    parity_limit: options.ParityLimit = None,
    allow_pickle: options.AllowPickle = None,
) -> None:
    """Measure an artifact's parity with PyTorch fp32 again, and store it in the artifact."""
    with terminal() as console:
        from harmless_runtime.cli.verify import run

        run(
            console,
            artifact,
            checkpoint=checkpoint,
            provider=provider or "auto",
            device=device or 0,
            compute=compute or "auto",
            parity_limit=parity_limit,
            allow_pickle=bool(allow_pickle),
        )


@app.command(short_help="Score rows.")
def score(
    inputs: options.Inputs,
    out: options.Out = None,
    config: options.Config = None,
    model: options.Model = None,
    max_length: options.MaxLength = None,
    batch_size: options.BatchSize = None,
    provider: options.Provider = None,
    precision: options.Precision = None,
    device: options.Device = None,
    gpu_memory: options.GpuMemory = None,
    compute: options.Compute = None,
    streams: options.Streams = None,
    columns: options.Columns = None,
    format: options.Format = None,  # noqa: A002 - the option has this name
    system: options.System = None,
    resume: options.Resume = False,
    max_line_bytes: options.MaxLineBytes = None,
    check_files: options.CheckFiles = None,
    allow_pickle: options.AllowPickle = None,
    overwrite: options.Overwrite = False,
    strict: options.Strict = False,
    details: options.Details = False,
    join: options.Join = False,
    score_column: options.ScoreColumn = None,
    dry_run: options.DryRun = False,
) -> None:
    """Score instruction/response pairs.

    The output has a line for each row, with its id and its score. With --join it has the rows
    themselves, with their scores.

    The shape of the rows is recognised (alpaca, prompt/response, messages and others), unless
    --columns or --format says what it is.

    Exit codes: 0 all rows were scored, 1 failed, 2 wrong usage, 3 finished with some rows rejected,
    130 interrupted, 143 terminated. An interrupted, terminated or failed run can be continued with
    --resume.
    """
    with terminal() as console:
        from harmless_runtime.cli.score import Arguments, run

        flags = {
            "model": model,
            "max_length": max_length,
            "batch_size": batch_size,
            "provider": provider,
            "precision": precision,
            "device": device,
            "gpu_memory": gpu_memory,
            "compute": compute,
            "streams": streams,
            "columns": columns,
            "format": format,
            "system": system,
            "max_line_bytes": max_line_bytes,
            "check_files": check_files,
            "allow_pickle": allow_pickle,
        }
        run(
            console,
            Arguments(
                inputs,
                out,
                config,
                flags,
                overwrite=overwrite,
                resume=resume,
                strict=strict,
                details=details,
                join=join,
                score_column=score_column,
                dry_run=dry_run,
            ),
        )


@app.command(short_help="Keep the rows with the highest or the lowest scores.")
def select(
    rows: options.ScoredRows,
    out: options.SelectOut,
    scores: options.Scores = None,
    score_column: options.SelectColumn = None,
    above: options.Above = None,
    below: options.Below = None,
    top: options.Top = None,
    bottom: options.Bottom = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Keep the rows whose scores are above or below a cut, as they are and in their order.

    The rows hold their scores, as `harmless score --join` writes them, or --scores names the output
    of the run that scored them. Rows without a score are never kept.
    """
    with terminal() as console:
        from harmless_runtime.cli.select import Arguments, run

        run(
            console,
            Arguments(rows, out, scores, score_column, above, below, top, bottom, overwrite),
        )


def main() -> None:
    """Run the command line."""
    run_command(app)

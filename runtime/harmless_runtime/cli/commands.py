"""Define the command `harmless`: its subcommands, and what `--help` says about them.

Each subcommand parses its arguments, and calls `run` of the module that has its name. That module
is imported then, because `harmless --help` should not wait for onnxruntime. The subcommands that
read rows are in `row_commands`.
"""

from typing import Annotated

import typer

from harmless_runtime import __version__
from harmless_runtime.cli import export_options, options, row_commands
from harmless_runtime.cli.failures import terminal
from harmless_runtime.cli.serve_command import serve

app = typer.Typer(
    help="Score how harmless instruction/response pairs are, with a GPT-2 reward model.",
    no_args_is_help=True,
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


def demo() -> None:
    """Score bundled rows with the bundled tiny model: no download, no torch."""
    with terminal():
        from harmless_runtime.cli.demo import run

        run()


def export(
    model: export_options.Checkpoint,
    out: export_options.ArtifactOut,
    precision: export_options.ExportPrecision = "fp32",
    revision: export_options.Revision = None,
    max_length: export_options.ExportLength = None,
    verify: export_options.Verify = True,
    parity_limit: export_options.ParityLimit = None,
    allow_pickle: options.AllowPickle = None,
    force: export_options.Force = False,
    _quiet: options.Quiet = False,
    _verbose: options.Verbose = False,
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


def verify(
    artifact: export_options.Artifact,
    checkpoint: export_options.CheckpointOfArtifact = None,
    provider: options.Provider = None,
    device: options.Device = None,
    compute: options.Compute = None,
    parity_limit: export_options.ParityLimit = None,
    allow_pickle: options.AllowPickle = None,
    _verbose: options.Verbose = False,
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


def doctor(model: options.DoctorModel = "demo") -> None:
    """Tell versions, the processor, memory, which providers work and why others do not.

    At the end a model scores random rows for a few seconds with each provider that works.
    """
    with terminal():
        from harmless_runtime.cli.doctor import run

        run(model)


def models(remove: options.Remove = None) -> None:
    """List the exports of checkpoints that are kept in the cache, or remove them."""
    with terminal() as console:
        from harmless_runtime.cli.models import run

        run(console, remove or [])


_COMMANDS = (
    ("demo", demo, "Score bundled rows with a bundled tiny model."),
    ("score", row_commands.score, "Score rows."),
    ("select", row_commands.select, "Keep the rows with the highest or the lowest scores."),
    ("report", row_commands.report, "Make a page to look at scores."),
    ("eval", row_commands.evaluate, "Count how often the model prefers the better response."),
    ("serve", serve, "Score rows that other programs send over HTTP."),
    ("export", export, "Turn a checkpoint into an ONNX artifact, and verify it."),
    ("verify", verify, "Compare an artifact with PyTorch again."),
    ("models", models, "List the exports that are kept, and remove them."),
    ("doctor", doctor, "Tell what is installed, what works here, and how fast it is."),
)
for _name, _command, _short_help in _COMMANDS:
    app.command(_name, short_help=_short_help)(_command)

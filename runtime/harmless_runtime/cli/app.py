"""The command `harmless`: a thin shell over functions that Python code can call as well."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from harmless_runtime import __version__
from harmless_runtime.cli.terminal import EXIT_REJECTS, resumable, run, terminal

app = typer.Typer(
    help="Score how harmless instruction/response pairs are, with a GPT-2 reward model.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # it cuts the names of options off where a terminal is narrow
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ProviderOption = Annotated[
    Literal["auto", "cuda", "cpu"] | None,
    typer.Option(help="Execution provider; auto takes CUDA where it works.", show_default="auto"),
]
DeviceOption = Annotated[
    int | None, typer.Option(min=0, help="Number of the CUDA device.", show_default="0")
]
LimitOption = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="Largest difference from PyTorch that passes, as a share of the scores' standard "
        "deviation.",
        show_default="fp32 1e-4, fp16 3e-2, bf16 and int8 0.2",
    ),
]


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
        from rich.console import Console

        from harmless_runtime.cli.display import show_demo, show_summary
        from harmless_runtime.config import DEFAULT_MODEL
        from harmless_runtime.demo import run_demo

        rows, summary = run_demo()
        out = Console()
        show_demo(out, rows)
        show_summary(out, summary)
        out.print(
            "\nThe bundled model only shows the mechanics: it is far too small to judge safety.\n"
            "For the real one (3.1 GB to download, with the export extra installed):\n\n"
            f"  harmless export {DEFAULT_MODEL} -o artifact\n"
            "  harmless score rows.jsonl -o scores.jsonl --model artifact",
            highlight=False,
            soft_wrap=True,
        )


@app.command(short_help="Turn a checkpoint into an ONNX artifact, and verify it.")
def export(
    model: Annotated[str, typer.Argument(help="Hugging Face id, or folder of a checkpoint.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Artifact folder to make.")],
    precision: Annotated[
        Literal["fp32", "fp16", "bf16", "int8"],
        typer.Option(
            help="Of the weights and activations; fp16 or bf16 for GPUs, fp32 or int8 for CPUs."
        ),
    ] = "fp32",
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of a Hugging Face id.")
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(
            min=1, help="Most tokens a row may have.", show_default="the model's positions"
        ),
    ] = None,
    verify: Annotated[bool, typer.Option(help="Compare with PyTorch fp32.")] = True,
    parity_limit: LimitOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an artifact.")] = False,
) -> None:
    """Turn a GPT-2 reward checkpoint into an ONNX artifact, and verify it against PyTorch."""
    with terminal() as console:
        _need_export_extra(f"harmless export {model}")
        from harmless_export import export_checkpoint
        from harmless_runtime.cli.display import show_parity

        artifact = export_checkpoint(
            model,
            out,
            precision=precision,
            revision=revision,
            max_length=max_length,
            verify=verify,
            limit=parity_limit,
            force=force,
        )
        show_parity(console, artifact)
        typer.echo(artifact.folder)


@app.command(short_help="Compare an artifact with PyTorch again.")
def verify(
    artifact: Annotated[Path, typer.Argument(help="Artifact folder.")],
    checkpoint: Annotated[
        str | None,
        typer.Option(help="Its checkpoint, if that is not where it was at export."),
    ] = None,
    provider: ProviderOption = None,
    device: DeviceOption = None,
    parity_limit: LimitOption = None,
) -> None:
    """Measure an artifact's parity with PyTorch fp32 again, and store it in the artifact."""
    with terminal() as console:
        _need_export_extra(f"harmless verify {artifact}")
        from harmless_export import verify_artifact
        from harmless_runtime.cli.display import show_parity
        from harmless_runtime.model.artifact import open_artifact

        verified = verify_artifact(
            open_artifact(artifact),
            checkpoint=checkpoint,
            provider=provider or "auto",
            device=device or 0,
            limit=parity_limit,
        )
        show_parity(console, verified)


@app.command(short_help="Score JSONL rows.")
def score(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="JSONL files; - is standard input.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="JSONL file to write.")],
    config: Annotated[
        Path | None, typer.Option(help="YAML file; the flags here win over it.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Artifact folder, checkpoint folder, Hugging Face id, or demo.",
            show_default="Ray2333/gpt2-large-harmless-reward_model",
        ),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(help="Tokens a row is truncated to.", show_default="the artifact's"),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="Memory knob: a batch holds at most batch-size × max-length tokens.",
            show_default="8",
        ),
    ] = None,
    provider: ProviderOption = None,
    precision: Annotated[
        Literal["auto", "fp32", "fp16", "bf16", "int8"] | None,
        typer.Option(help="Of a checkpoint's export.", show_default="fp16 on CUDA, fp32 on CPU"),
    ] = None,
    device: DeviceOption = None,
    gpu_memory: Annotated[
        float | None,
        typer.Option(help="Most GPU memory to take, in GB.", show_default="no limit"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run of the same command.")
    ] = False,
    max_line_bytes: Annotated[
        int | None,
        typer.Option(help="Longer lines are rejected.", show_default="4 MiB"),
    ] = None,
    check_files: Annotated[
        bool | None,
        typer.Option(
            "--check-files/--no-check-files",
            help="Compare the artifact's files with their hashes first.",
            show_default="check",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start again, and replace OUT.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first row that cannot be scored.")
    ] = False,
    details: Annotated[
        bool, typer.Option("--details", help="Add tokens and truncated to each line.")
    ] = False,
) -> None:
    """Score JSONL rows (instruction, output, optional input and id), a line of output a row.

    Exit codes: 0 every row scored, 1 failed, 2 wrong usage, 3 finished with some rows rejected,
    130 interrupted, 143 terminated; after the last two, and after many a failure, --resume goes on.
    """
    with terminal() as console:
        from harmless_runtime.cli.display import ScoringProgress, say, show_summary
        from harmless_runtime.config import load_config
        from harmless_runtime.errors import ConfigError
        from harmless_runtime.model.engine import load_engine
        from harmless_runtime.output.paths import check_free
        from harmless_runtime.pipeline import score_files
        from harmless_runtime.rows.records import STDIN, check_sources

        settings = load_config(
            config,
            {
                "model": model,
                "max_length": max_length,
                "batch_size": batch_size,
                "provider": provider,
                "precision": precision,
                "device": device,
                "gpu_memory": gpu_memory,
                "max_line_bytes": max_line_bytes,
                "check_files": check_files,
            },
        )
        # Before the model is loaded, or even exported: these fail at once or not at all.
        if str(out) == STDIN:
            raise ConfigError("-o - is not possible: the output appears only when it is complete")
        check_sources(inputs)
        if resume and overwrite:
            raise ConfigError("--resume goes on, --overwrite starts again: not both")
        check_free(out, inputs, overwrite=overwrite, resume=resume)
        engine = load_engine(settings)
        with resumable(console, out), ScoringProgress(console, inputs) as progress:
            summary = score_files(
                inputs,
                out,
                engine,
                strict=strict,
                details=details,
                overwrite=overwrite,
                resume=resume,
                on_progress=progress.update,
            )
        show_summary(console, summary)
        if summary.tally.rejected:
            say(
                console,
                f"not every row could be scored: {summary.tally.rejected:,} in {summary.rejects}",
            )
            raise typer.Exit(EXIT_REJECTS)


def _need_export_extra(command: str) -> None:
    from importlib.util import find_spec

    from harmless_runtime.errors import ConfigError

    missing = [
        name for name in ("torch", "transformers", "onnx_ir", "safetensors") if not find_spec(name)
    ]
    if missing:
        raise ConfigError(
            f"{command} needs {', '.join(missing)}: pip install '.[export]' in the project's folder"
        )


def main() -> None:
    """Run the command line."""
    run(app)

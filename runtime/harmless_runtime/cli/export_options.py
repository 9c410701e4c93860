"""The arguments and options of `harmless export` and `harmless verify`, with their help texts."""

from pathlib import Path
from typing import Annotated

import typer

from harmless_runtime import choices
from harmless_runtime.cli import options

Checkpoint = Annotated[str, typer.Argument(help="Hugging Face id, or folder of a checkpoint.")]
ArtifactOut = Annotated[Path, typer.Option("--out", "-o", help="Artifact folder to make.")]
ExportPrecision = Annotated[
    choices.Precision,
    typer.Option(
        help="Precision of weights and activations: fp16 or bf16 for GPUs, fp32 or int8 for CPUs."
    ),
]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hugging Face id.")]
ExportLength = Annotated[
    int | None,
    typer.Option(min=1, help="Most tokens of a row.", show_default="the model's positions"),
]
Verify = Annotated[bool, typer.Option(help="Compare the artifact's scores with PyTorch fp32.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an artifact that exists.")]
ParityLimit = Annotated[
    float | None,
    typer.Option(
        min=0,
        callback=options.finite,
        help="Largest difference from PyTorch that passes, as a share of the scores' standard "
        "deviation.",
        show_default="fp32 1e-4, fp16 3e-2, bf16 and int8 0.2",
    ),
]

Artifact = Annotated[Path, typer.Argument(help="Artifact folder.")]
CheckpointOfArtifact = Annotated[
    str | None,
    typer.Option(help="Where the artifact's checkpoint is, if it was moved since the export."),
]

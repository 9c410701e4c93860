"""The arguments and options of all subcommands, each with its help text.

An option of `score` that is also a key of the YAML file has the default None, so that the file can
set it. `show_default` then says what the default is.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from harmless_runtime import choices
from harmless_runtime.cli import verbosity

Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="Print warnings, errors and results only.",
        callback=verbosity.set_quiet,
        is_eager=True,
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Print more: what is decided, how long steps take, and tracebacks of errors.",
        callback=verbosity.set_verbose,
        is_eager=True,
    ),
]

Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUT",
        help="JSON lines, a JSON array, CSV, Parquet or Arrow, compressed or not: files, folders, "
        "patterns, URLs; - is standard input.",
    ),
]
Out = Annotated[
    str | None,
    typer.Option(
        "--out",
        "-o",
        help="What to write: .jsonl, .csv or .tsv, each also with .gz or .zst; .parquet; or a "
        "folder (a name that ends in /), which gets a file for each input. It may be the URL of an "
        "object store, such as s3://bucket/scores.parquet.",
    ),
]
Join = Annotated[
    bool, typer.Option("--join", help="Write the rows themselves, each with its score.")
]
ScoreColumn = Annotated[
    str | None,
    typer.Option(
        help="With --join: name of the field or column for the score.",
        show_default=choices.SCORE_COLUMN,
    ),
]
Engine = Annotated[
    choices.EngineName | None,
    typer.Option(
        help="What runs the scoring: this process, or workers of Ray, on one machine or many.",
        show_default="local, or ray with --workers or --address",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="With Ray: number of processes that score, each on a GPU or a share of the cores.",
        show_default="one for each GPU, or else for each machine",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        help="A Ray that is running: HOST:PORT, or auto on one of its machines.",
        show_default="one on this machine, for this run alone",
    ),
]
Config = Annotated[Path | None, typer.Option(help="YAML file. Flags replace its settings.")]
Model = Annotated[
    str | None,
    typer.Option(
        help="Artifact folder, checkpoint folder, Hugging Face id, or the word demo.",
        show_default=choices.DEFAULT_MODEL,
    ),
]
MaxLength = Annotated[
    int | None,
    typer.Option(
        help="Most tokens of a row; longer rows are truncated.", show_default="the artifact's"
    ),
]


def finite(number: float | None) -> float | None:
    """Return a number, or raise BadParameter for infinity and NaN."""
    if number is None or math.isfinite(number):
        return number
    raise typer.BadParameter(f"{number} is not a finite number")


def number_or(word: str) -> Callable[[str | None], str | None]:
    """Return a callback that takes a number or a word, and raises BadParameter for all else."""

    def check(text: str | None) -> str | None:
        if text is None or text == word or text.isdecimal():
            return text
        raise typer.BadParameter(f"{text!r} is neither a number nor the word {word}")

    return check


BatchSize = Annotated[
    str | None,
    typer.Option(
        help="Bounds memory: a batch holds at most batch-size × max-length tokens (on a CPU 512). "
        "auto: what the free memory of a GPU has room for.",
        metavar="ROWS|auto",
        callback=number_or("auto"),
        show_default="8",
    ),
]
Provider = Annotated[
    choices.ProviderChoice | None,
    typer.Option(
        help="Execution provider; auto takes CUDA if it works, and else the CPU.",
        show_default="auto",
    ),
]
Precision = Annotated[
    choices.PrecisionChoice | None,
    typer.Option(
        help="Precision to export a checkpoint in. An artifact keeps its own.",
        show_default="fp16 on CUDA, fp32 on CPU",
    ),
]
Device = Annotated[
    int | None, typer.Option(min=0, help="Number of the CUDA device.", show_default="0")
]
Devices = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="NUMBER|all",
        help="Number of the CUDA device, or all of this machine, each with a worker of Ray.",
        show_default="0",
        callback=number_or("all"),
    ),
]
GpuMemory = Annotated[
    float | None,
    typer.Option(
        help="Most GPU memory for weights and activations, in GB.", show_default="no limit"
    ),
]
Compute = Annotated[
    choices.ComputeChoice | None,
    typer.Option(
        help="What OpenVINO computes in.", show_default="bf16 on a processor with AMX, else fp32"
    ),
]
Streams = Annotated[
    int | None,
    typer.Option(
        min=1, help="Batches that run at once on a CPU.", show_default="one for each core"
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(
        metavar="NAME=FIELD,...",
        help="Where the texts are: instruction, input and output, or messages; history, system and "
        "id. Dots reach into fields: output=choices.0.text. Within turns: role and content.",
        show_default="recognised",
    ),
]
Roles = Annotated[
    str | None,
    typer.Option(
        metavar="NAME=ROLE,...",
        help="Whose words the turns of a speaker have: user, assistant or system.",
        show_default="the usual names",
    ),
]
Format = Annotated[
    choices.FormatName | None,
    typer.Option(help="Known shape of the rows.", show_default="recognised"),
]
System = Annotated[
    choices.SystemChoice | None,
    typer.Option(
        help="System texts of conversations: left out, or put before the first human turn.",
        show_default="drop",
    ),
]
AsIs = Annotated[
    bool | None,
    typer.Option(
        "--as-is",
        help="Take requests that are dialogues or chat templates as words, as the original scorer "
        "does, and end tokens as part of the answer.",
        show_default=False,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Show how the rows are read and how long scoring would take, and score nothing.",
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Continue an interrupted run of the same command.")
]
MaxLineBytes = Annotated[
    int | None, typer.Option(help="Longer rows are rejected.", show_default="4 MiB")
]
CheckFiles = Annotated[
    bool | None,
    typer.Option(
        "--check-files/--no-check-files",
        help="Compare the artifact's files with their hashes first.",
        show_default="check",
    ),
]
AllowPickle = Annotated[
    bool | None,
    typer.Option(
        "--allow-pickle",
        help="Read a checkpoint's weights from pytorch_model.bin if it has no safetensors file. "
        "Loading a pickle can run code: use it only if you trust where it comes from.",
        show_default=False,
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Start again, and replace OUT.")]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Stop at the first row that cannot be scored, or whose words hold marks of a chat "
        "template.",
    ),
]
Details = Annotated[
    bool,
    typer.Option(
        "--details", help="Add tokens, truncated, source and line to each line of output."
    ),
]

DoctorModel = Annotated[
    str, typer.Option("--model", help="What the speed test scores with: as in score.")
]
Remove = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME", help="Export to remove; may be given several times.", show_default=False
    ),
]

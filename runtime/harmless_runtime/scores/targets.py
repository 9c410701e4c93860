"""Say which files a run gives in the end, and in which form, by their names."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from harmless_runtime.errors import OutputError
from harmless_runtime.rows.sources import Source
from harmless_runtime.run import Run

# Suffixes that an input may have, and the one of the output that is made of it.
_WRITTEN_AS = {
    ".json": ".jsonl", ".ndjson": ".jsonl", ".arrow": ".parquet", ".feather": ".parquet",
}  # fmt: skip
_NOT_WRITTEN = (
    ".arrow", ".avro", ".bz2", ".feather", ".json", ".ods", ".orc", ".xls", ".xlsx", ".xz", ".zip",
)  # fmt: skip


@dataclass(frozen=True)
class ResultForm:
    """How a file of results is written."""

    kind: Literal["JSON lines", "CSV", "Parquet"]
    compression: Literal["gzip", "zstandard"] | None = None
    delimiter: str = ","


@dataclass(frozen=True)
class Target:
    """A file of results.

    Attributes:
        final: its name when it is whole.
        form: how it is written.
        sources: the inputs whose rows it holds.
        folder: where it is made. None means beside its final name.
    """

    final: Path
    form: ResultForm
    sources: tuple[Source, ...]
    folder: Path | None = None

    @property
    def made(self) -> Path:
        """The name of the file until it is whole."""
        return (self.folder or self.final.parent) / f"{self.final.name}.made"


def form_of(name: str) -> ResultForm:
    """Return the form that a file's name stands for: JSON lines if it says nothing else.

    Raises:
        OutputError: it stands for a form that cannot be written.
    """
    lower = name.lower()
    compression: Literal["gzip", "zstandard"] | None = None
    if lower.endswith(".gz"):
        compression = "gzip"
    elif lower.endswith((".zst", ".zstd")):
        compression = "zstandard"
    suffix = PurePosixPath(lower[: lower.rindex(".")] if compression else lower).suffix
    if suffix in _NOT_WRITTEN or (suffix == ".parquet" and compression):
        raise OutputError(
            f"{name} has a name for a form that cannot be written",
            "outputs are .jsonl, .csv and .tsv, each also with .gz or .zst, and .parquet",
        )
    if suffix == ".parquet":
        return ResultForm("Parquet")
    if suffix in (".csv", ".tsv"):
        return ResultForm("CSV", compression, "\t" if suffix == ".tsv" else ",")
    return ResultForm("JSON lines", compression)


def targets_of(run: Run) -> tuple[Target, ...]:
    """Return the files that a run gives in the end.

    Raises:
        OutputError: two inputs would give the same file, or an input has no name.
    """
    sources = run.inputs.sources
    if not run.is_folder:
        return (Target(run.output, form_of(run.output.name), sources),)
    targets: dict[Path, Target] = {}
    for source in sources:
        if source.kind == "stdin":
            raise OutputError(
                f"{run.output} is a folder, and standard input has no name for the file in it",
                "name a file as the output",
            )
        final = run.output / _name_of(source.below)
        if final in targets:
            raise OutputError(
                f"{targets[final].sources[0].name} and {source.name} would both give {final}",
                "name the folder that they are in, which keeps its folders; or score them in two "
                "runs, or into one file",
            )
        targets[final] = Target(final, form_of(final.name), (source,))
    return tuple(targets.values())


def is_plain(run: Run) -> bool:
    """Return whether a run gives its lines of scores as they are, so that nothing is made."""
    return not run.is_folder and run.join is None and form_of(run.output.name) == _PLAIN


_PLAIN = ResultForm("JSON lines")


def _name_of(below: str) -> str:
    """Return the name of the output for an input: its own, if it is one that can be written."""
    path = PurePosixPath(below)
    compression = ""
    if path.suffix in (".gz", ".zst", ".zstd", ".bz2", ".xz"):
        compression = path.suffix if path.suffix not in _NOT_WRITTEN else ""
        path = path.with_suffix("")
    path = path.with_suffix(_WRITTEN_AS.get(path.suffix.lower(), path.suffix))
    return str(path) + compression

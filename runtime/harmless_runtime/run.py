"""Say what one run is asked to do, in one value that is made once."""

import os
from dataclasses import dataclass
from os import PathLike, fsdecode
from pathlib import Path
from typing import Literal

from harmless_runtime.choices import SCORE_COLUMN
from harmless_runtime.errors import ConfigError
from harmless_runtime.object_store import check_store, staging_path
from harmless_runtime.rows.inputs import Inputs
from harmless_runtime.rows.remote import is_remote
from harmless_runtime.rows.sources import STDIN

Existing = Literal["refuse", "overwrite", "resume"]


@dataclass(frozen=True)
class Run:
    """Which inputs are scored into which output, and how.

    Attributes:
        inputs: the inputs. They are scored one after the other, and never written to.
        output: the file of scores, or the folder of them. A file appears under its final name when
            it is whole. The name says in which form it is written.
        existing: what to do if the output exists, whole or in part. "refuse" raises an error.
            "overwrite" starts again and replaces the output. "resume" continues an interrupted
            run, and starts one if none was interrupted. If the output is whole and of the same
            run, nothing is done; if it is of another one, that is an error.
        strict: raise an error at the first row that cannot be scored.
        is_folder: whether `output` is a folder, which gets a file for each input.
        url: where in an object store the finished output is put, if that is asked for. `output` is
            then where it is made.
        join: write the rows with their scores, which get the field or column of this name. None
            means that ids and scores are written without the rows.
        details: add `tokens`, `truncated`, `source` and `line` to each line of scores.
        commit_seconds: least seconds between two commits. A commit comes only after a window. A
            crash costs the results since the last commit, and the windows that were under way.
            `benchmarks/host.py` measures the share of the time that commits take.
        piece_bytes: larger files are cut into pieces, and inputs that follow each other are a piece
            when they have so many bytes. A window begins with each piece, so that pieces can be
            scored on several machines. None leaves the size to the engine.
    """

    inputs: Inputs
    output: Path
    existing: Existing = "refuse"
    is_folder: bool = False
    url: str | None = None
    join: str | None = None
    strict: bool = False
    details: bool = False
    commit_seconds: float = 5.0
    piece_bytes: int | None = None

    @property
    def name(self) -> str:
        """The output, as it was named."""
        return self.url or str(self.output)

    @property
    def reads_stdin(self) -> bool:
        """Whether one of the inputs is standard input."""
        return any(source.kind == "stdin" for source in self.inputs.sources)


@dataclass(frozen=True)
class OutputName:
    """The output that a name stands for, as the fields of `Run` have it."""

    output: Path
    is_folder: bool
    url: str | None = None


def output_named(name: str) -> OutputName:
    """Return the output that a name stands for: a file, a folder, or a URL of either.

    A folder is one that exists, or a name that ends in `/`.

    Raises:
        ConfigError: it is standard output; or as `object_store.check_store`.
        OutputError: as `object_store.check_store`.
    """
    if name == STDIN:
        raise ConfigError(
            "the output cannot be standard output, because it appears only when it is complete",
            "name a file",
        )
    if is_remote(name):
        check_store(name)
        return OutputName(staging_path(name), name.endswith("/"), name)
    path = without_parents(Path(name))
    return OutputName(path, name.endswith("/") or path.is_dir())


def without_parents(path: Path) -> Path:
    """Return the path of an output without `..`, for example `rows.jsonl` for `new/../rows.jsonl`.

    If there is no folder `new`, the path as it was given leads nowhere until the folder is made.
    Only then would it be seen that the output is an input.
    """
    if ".." not in path.parts:
        return path
    if path.name == "..":
        return Path(os.path.realpath(path))
    return Path(os.path.realpath(path.parent), path.name)


def join_column(score_column: str | None, *, join: bool, details: bool) -> str | None:
    """Return the field or column that scores are joined to rows as, or None for no join.

    Args:
        score_column: the name that was asked for, if one was.
        join: whether a join was asked for.
        details: whether details were.

    Raises:
        ConfigError: these contradict each other.
    """
    if not join:
        if score_column is not None:
            raise ConfigError("score_column names a column of joined rows", "add `join`")
        return None
    if details:
        raise ConfigError(
            "details and join exclude each other, because joined rows get only their score"
        )
    if score_column == "":
        raise ConfigError("score_column is empty", "leave it out, or give a name")
    name = score_column or SCORE_COLUMN
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"score_column is not valid UTF-8: {name!a}") from None
    return name


def existing_mode(*, overwrite: bool, resume: bool) -> Existing:
    """Turn the two switches that people set into one mode.

    Raises:
        ConfigError: both are set.
    """
    if overwrite and resume:
        raise ConfigError(
            "overwrite and resume exclude each other",
            "`resume` continues an interrupted run, `overwrite` starts again",
        )
    if overwrite:
        return "overwrite"
    return "resume" if resume else "refuse"


def name_of(path: object, what: str) -> str:
    """Return the name that a caller gives as a string or a path.

    Args:
        path: what is given.
        what: what it names, for the error.

    Raises:
        ConfigError: it is neither a string nor a path.
    """
    if isinstance(path, str | PathLike):
        return fsdecode(path)
    raise ConfigError(
        f"the name of {what} is of type {type(path).__name__}, and has to be a string or a path"
    )

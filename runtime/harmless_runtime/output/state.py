"""Read and write the state file: how far a run got, with which input, model and settings."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from harmless_runtime.errors import OutputError
from harmless_runtime.output import disk
from harmless_runtime.scores.record import Count

FORMAT_VERSION = 3
START_AGAIN = "`overwrite` starts again"

# The settings, the model and the inputs' names and sizes, by names that a person understands. A run
# is resumed only if they are equal. `InputDigest` compares the content of the inputs.
Fingerprint = Mapping[str, Any]


class Claim(msgspec.Struct, frozen=True):
    """The part of a file that a state claims to be on the disk: `size` bytes, and their SHA-256."""

    size: Count
    sha256: str


class Made(msgspec.Struct, frozen=True):
    """The files that were made of the scores: whole, on the disk, and in the order of the targets.

    `join` is that of the run that made them.
    """

    join: str | None
    claims: list[Claim]


EMPTY = Claim(0, hashlib.sha256().hexdigest())


class State(msgspec.Struct, frozen=True):
    """How far an unfinished run got.

    Attributes:
        fingerprint: what the run depends on.
        lines: number of input lines whose results are on the disk.
        digest: hash of these lines, as `InputDigest` computes it.
        scores: the claim for the scores file.
        rejects: the claim for the rejects file.
        counts: the fields of `Tally`, by name.
        replace: whether the results may replace older files with the final names.
        complete: whether all scores and rejects are on the disk.
        made: what was made of them, if that is done and not only a renaming.
    """

    fingerprint: dict[str, Any]
    lines: Count
    digest: str
    scores: Claim
    rejects: Claim
    counts: dict[str, Count]
    replace: bool
    complete: bool
    made: Made | None = None


class _File(msgspec.Struct):
    format_version: int
    sha256: str
    state: msgspec.Raw


def write_state(path: Path, state: State) -> None:
    """Replace the state file in one step. The file contains the SHA-256 of its own content."""
    content = msgspec.json.encode(state)
    file = _File(FORMAT_VERSION, hashlib.sha256(content).hexdigest(), msgspec.Raw(content))
    disk.replace(path, msgspec.json.encode(file) + b"\n")


def read_state(path: Path) -> State | None:
    """Read a state file; return None if there is none.

    Raises:
        OutputError: the file cannot be read, is damaged, or has the format of another release.
    """
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_File)
        if file.format_version != FORMAT_VERSION:
            raise OutputError(
                f"{path} has state format {file.format_version}, and this release of "
                f"harmless-scorer reads format {FORMAT_VERSION}",
                f"finish the run with the release that began it; {START_AGAIN}",
            )
        if hashlib.sha256(file.state).hexdigest() != file.sha256:
            raise OutputError(f"{path} is damaged", START_AGAIN)
        return msgspec.json.decode(file.state, type=State)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OutputError(f"{path} is damaged: {error}", START_AGAIN) from error

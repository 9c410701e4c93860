"""The state file, which `resume` reads: how far a run got, with which input, model and settings."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from harmless_runtime.errors import OutputError
from harmless_runtime.output import disk

FORMAT_VERSION = 2
START_AGAIN = "`overwrite` starts again"

# What a run depends on, by names that a person understands. Two runs with equal fingerprints write
# the same bytes.
Fingerprint = Mapping[str, Any]

Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]


class Claim(msgspec.Struct, frozen=True):
    """What a state says is on the disk of one file: its first `size` bytes, and their SHA-256."""

    size: Count
    sha256: str


EMPTY = Claim(0, hashlib.sha256().hexdigest())


class State(msgspec.Struct, frozen=True):
    """How far an unfinished run got.

    Attributes:
        fingerprint: what the run depends on.
        lines: number of input lines whose results are on the disk.
        digest: SHA-256 of these lines, as `InputDigest` computes it.
        scores: what is on the disk of the scores.
        rejects: what is on the disk of the rejects.
        counts: the figures for the summary, by name.
        replace: whether older files may lose their names to the results.
        complete: whether only the final names are missing.
    """

    fingerprint: dict[str, Any]
    lines: Count
    digest: str
    scores: Claim
    rejects: Claim
    counts: dict[str, Count]
    replace: bool
    complete: bool


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
        OutputError: the file is damaged, or was written by a release with another format.
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

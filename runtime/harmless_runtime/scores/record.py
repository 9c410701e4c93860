"""Say what the record of a finished run holds, which stays beside its output as `OUT.run.json`."""

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from harmless_runtime.choices import SystemChoice
from harmless_runtime.errors import OutputError
from harmless_runtime.rows.shapes import Shape

FORMAT_VERSION = 1


class InputFacts(msgspec.Struct, frozen=True):
    """An input as it was when the run began.

    `changed` is the time of a file's last change, in nanoseconds since 1970. `version` is the ETag
    of a remote file, or the time of its last change. `sha256` is that of a local file whose rows
    were joined with their scores, because all of its bytes matter then.
    """

    name: str
    size: int | None
    version: str | None
    changed: int | None
    sha256: str | None = None


class HowRead(msgspec.Struct, frozen=True):
    """How rows were read. `line_bytes` is the most bytes of a row."""

    shape: Shape
    system: SystemChoice
    line_bytes: int


class FileFacts(msgspec.Struct, frozen=True):
    """A file that the run wrote. `name` is its path below the folder of the record."""

    name: str
    size: int
    sha256: str


class RunRecord(msgspec.Struct, frozen=True):
    """What a finished run did.

    Attributes:
        format_version: of the record.
        release: of harmless-scorer.
        finished: the time in UTC.
        fingerprint: what decided the results.
        join: the field that the scores were joined to the rows as, or None.
        inputs: what was read.
        how_read: how its rows were read.
        lines: number of rows.
        digest: their SHA-256, as `InputDigest` computes it.
        counts: the fields of `Tally`, by name.
        replace: whether the results might replace older ones.
        files: what was written. The rejects come first, if there are any.
        about: facts for people: the artifact and its parity, the time, versions.
    """

    format_version: int
    release: str
    finished: str
    fingerprint: dict[str, Any]
    join: str | None
    inputs: list[InputFacts]
    how_read: HowRead
    lines: int
    digest: str
    counts: dict[str, int]
    replace: bool
    files: list[FileFacts]
    about: dict[str, Any]


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal.

    Raises:
        OutputError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror}") from error


def change_of(path: Path, facts: FileFacts) -> str | None:
    """Say how a file differs from what the run wrote. None means that it is the same.

    Raises:
        OutputError: it cannot be read.
    """
    if not path.exists():
        return f"{path} is missing"
    if path.stat().st_size != facts.size or hash_of(path) != facts.sha256:
        return f"{path} was changed since it was written"
    return None


def read_record(path: Path) -> RunRecord | None:
    """Read a record; return None if there is none.

    Raises:
        OutputError: it cannot be read, or as `decode_record`.
    """
    try:
        return decode_record(str(path), path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror}") from error


def decode_record(name: str, content: bytes) -> RunRecord:
    """Return the record that a file holds.

    Args:
        name: of the file, for the error.
        content: of the file.

    Raises:
        OutputError: it is not a record, or not one of this release's format.
    """
    try:
        record = msgspec.json.decode(content, type=RunRecord)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OutputError(f"{name} is not the record of a run: {error}", "move it away") from error
    if record.format_version != FORMAT_VERSION:
        raise OutputError(
            f"{name} has record format {record.format_version}, and this release of "
            f"harmless-scorer reads format {FORMAT_VERSION}",
            "`overwrite` scores again",
        )
    return record

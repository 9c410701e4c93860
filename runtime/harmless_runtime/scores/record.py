"""Say what the record of a finished run holds, which stays beside its output as `OUT.run.json`."""

import hashlib
import os
import re
from dataclasses import fields
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import msgspec

from harmless_runtime.choices import SpeakerRole, SystemChoice
from harmless_runtime.errors import ConfigError, OutputError, one_line
from harmless_runtime.rows.parsing import RowParser
from harmless_runtime.rows.shapes import Reading, Shape
from harmless_runtime.rows.sources import valid_text
from harmless_runtime.tally import Tally

FORMAT_VERSION = 2
# Releases before 0.7 hashed the rows in another way.
_OLDER_FORMAT = 1

Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
# File systems have no longer name between two slashes.
_NAME_BYTES = 255


class InputFacts(msgspec.Struct, frozen=True):
    """An input as it was when the run began.

    `changed` is the time of a file's last change, in nanoseconds since 1970. `version` is the ETag
    of a remote file, or the time of its last change. `sha256` is that of a local file whose rows
    were joined with their scores, because all of its bytes matter then. `rows` is the number of its
    rows, those included that could not be scored. Records of releases before 0.8 do not hold it.
    """

    name: str
    size: int | None
    version: str | None
    changed: int | None
    sha256: str | None = None
    rows: Count | None = None


class HowRead(msgspec.Struct, frozen=True):
    """How rows were read: their shape, and settings of `Reading`.

    Releases before 0.8 read the texts of rows as they are, and their records do not hold `as_is`.
    """

    shape: Shape
    system: SystemChoice
    line_bytes: Annotated[int, msgspec.Meta(ge=1, le=2**30)]
    as_is: bool = True
    roles: dict[str, SpeakerRole] = {}

    def reading(self, line_bytes: int | None = None) -> Reading:
        """Return how to read the rows again, perhaps with room for longer ones."""
        most = self.line_bytes if line_bytes is None else line_bytes
        return Reading(system=self.system, line_bytes=most, as_is=self.as_is, roles=self.roles)


class FileFacts(msgspec.Struct, frozen=True):
    """A file that the run wrote. `name` is its path below the folder of the record.

    In the record itself, `\\xff` in a name stands for a byte that is not UTF-8, and a backslash is
    doubled.
    """

    name: str
    size: Count
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
        digest: their hash, as `InputDigest` computes it. None in the record of an older release,
            which hashed them in another way.
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
    digest: str | None
    counts: dict[str, Count]
    replace: bool
    files: Annotated[list[FileFacts], msgspec.Meta(min_length=1)]
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
    try:
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return f"{path} is missing"
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror}") from error
    if size != facts.size or hash_of(path) != facts.sha256:
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


def encode_record(record: RunRecord) -> bytes:
    """Return the content of the file that holds a record."""
    files = [msgspec.structs.replace(file, name=_escaped(file.name)) for file in record.files]
    content = msgspec.json.encode(msgspec.structs.replace(record, files=files))
    return msgspec.json.format(content) + b"\n"


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
    if record.format_version == _OLDER_FORMAT:
        record = msgspec.structs.replace(record, digest=None)
    elif record.format_version != FORMAT_VERSION:
        raise OutputError(
            f"{name} has record format {record.format_version}, and this release of "
            f"harmless-scorer reads format {FORMAT_VERSION}",
            "`overwrite` scores again",
        )
    files = [msgspec.structs.replace(file, name=_unescaped(file.name)) for file in record.files]
    record = msgspec.structs.replace(record, files=files)
    fault = _fault(record)
    if fault is not None:
        raise OutputError(f"{name} is not the record of a run: {fault}", "move it away")
    return record


def _fault(record: RunRecord) -> str | None:
    """Return what no run has written into a record, or None. Somebody may have edited it."""
    known = {field.name for field in fields(Tally)}
    if unknown := record.counts.keys() - known:
        return f"its counts have the name {min(unknown)!r:.80}"
    if any("\0" in facts.name for facts in record.inputs):
        return "an input has a name that no file has"
    for file in record.files:
        if not _is_name_below(file.name):
            return f"{file.name!r:.80} is not the name of a file below its folder"
    how = record.how_read
    if not how.shape.id or not (how.shape.messages or how.shape.output):
        return "the shape of the rows lacks a field"
    try:
        for side in how.shape.sides:
            RowParser(side, how.reading())
    except (ConfigError, ValueError) as error:
        return f"no rows have its shape: {one_line(error)}"
    return None


def _is_name_below(name: str) -> bool:
    """Return whether a name is that of a file below a folder, whichever folder that is."""
    path = PurePosixPath(name)
    if not path.name or path.is_absolute() or ".." in path.parts or "\0" in name:
        return False
    return all(len(os.fsencode(part)) <= _NAME_BYTES for part in path.parts)


def _escaped(name: str) -> str:
    """Return a file's name as valid UTF-8, from which `_unescaped` makes the same name."""
    return valid_text(name.replace("\\", "\\\\"))


def _unescaped(name: str) -> str:
    return re.sub(r"\\(\\|x[89a-f][0-9a-f])", _character, name)


def _character(escape: re.Match[str]) -> str:
    """Return what an escape stands for: a backslash, or a byte that is not UTF-8."""
    text = escape[1]
    return text if text == "\\" else os.fsdecode(bytes.fromhex(text[1:]))

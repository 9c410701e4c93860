"""How far a run has come, and what it was a run of: the small file that `--resume` goes by."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from harmless_runtime.errors import OutputError
from harmless_runtime.output import disk
from harmless_runtime.rows.records import Line

FORMAT_VERSION = 1

# What a run is a run of, by names that a person understands: two runs with the same values make
# the same bytes.
Fingerprint = Mapping[str, Any]

Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]


class State(msgspec.Struct, frozen=True):
    """What is on the disk of an unfinished run.

    `lines` counts the lines of input that were scored or rejected, `digest` is their SHA-256, and
    of the files that hold the results it has the sizes and the SHA-256. `counts` is what the
    summary tells. `replace` says whether the final names may be taken from older files,
    and `complete` that only they are missing.
    """

    fingerprint: dict[str, Any]
    lines: Count
    digest: str
    scores_bytes: Count
    scores_sha256: str
    rejects_bytes: Count
    rejects_sha256: str
    counts: dict[str, Count]
    replace: bool
    complete: bool

    @property
    def claims(self) -> list[tuple[int, str]]:
        """The size in bytes and the SHA-256 of what is claimed of the scores and the rejects."""
        return [
            (self.scores_bytes, self.scores_sha256),
            (self.rejects_bytes, self.rejects_sha256),
        ]


class _File(msgspec.Struct):
    format_version: int
    sha256: str
    state: msgspec.Raw


def write_state(path: Path, state: State) -> None:
    """Write the state, with its own SHA-256, in place of the one before."""
    content = msgspec.json.encode(state)
    file = _File(FORMAT_VERSION, hashlib.sha256(content).hexdigest(), msgspec.Raw(content))
    disk.replace(path, msgspec.json.encode(file) + b"\n")


def read_state(path: Path) -> State | None:
    """Read a state, or None where there is none.

    Raises:
        OutputError: the file is not a state that this release reads.
    """
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_File)
        if file.format_version != FORMAT_VERSION:
            raise OutputError(
                f"{path} is of another release (format {file.format_version}): finish the run with "
                "that, or start again with --overwrite"
            )
        if hashlib.sha256(file.state).hexdigest() != file.sha256:
            raise OutputError(f"{path} is damaged: start again with --overwrite")
        return msgspec.json.decode(file.state, type=State)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OutputError(f"{path} is damaged ({error}): start again with --overwrite") from error


def check_fingerprint(path: Path, then: Fingerprint, now: Fingerprint) -> None:
    """Raise OutputError where a run to be resumed was one of something else, saying what changed.

    Args:
        path: the state's.
        then: what the run was begun with.
        now: what is to go on with.
    """
    changed = [
        f"{name} was {then.get(name)!r} and is {now.get(name)!r}"
        for name in {**then, **now}
        if then.get(name) != now.get(name)
    ]
    if changed:
        raise OutputError(
            f"cannot resume from {path}, because {'; '.join(changed)}: resume with what it was "
            "begun with, or start again with --overwrite"
        )


class Consumed:
    """The lines of input that are done with: their number and a hash of their content."""

    def __init__(self) -> None:
        self.lines = 0
        self._digest = hashlib.sha256()

    @property
    def digest(self) -> str:
        """SHA-256 over the lines so far, in hexadecimal."""
        return self._digest.hexdigest()

    def add(self, lines: Iterable[Line]) -> None:
        """Count lines in their order, with their place in the input."""
        for line in lines:
            self._digest.update(b"%d %d\n" % (line.number, line.length or len(line.raw)))
            self._digest.update(line.raw)
            self.lines += 1

    def skip(self, lines: Iterator[Line], state: State) -> None:
        """Take from the input what a state says is done, and check that it is the same.

        Raises:
            OutputError: the input is shorter, or other than what was scored.
        """
        self.add(itertools.islice(lines, state.lines))
        if self.lines != state.lines or self.digest != state.digest:
            raise OutputError(
                f"cannot resume, because the first {state.lines:,} lines of the input are not "
                "those that were scored: resume with the same input, or start again with "
                "--overwrite"
            )

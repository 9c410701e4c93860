"""Name the files of an output, and check that they are free."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harmless_runtime.errors import OutputError
from harmless_runtime.output import disk
from harmless_runtime.rows.records import STDIN


def rejects_path(output: Path) -> Path:
    """Return where the rejects of an output go: `x.rejects.jsonl` for `x.jsonl`."""
    if output.suffix == ".jsonl":
        return output.with_suffix(".rejects.jsonl")
    return output.with_name(output.name + ".rejects")


# What the names end with that a run gives beside the output.
_OWN_SUFFIXES = (".partial", ".state", ".lock", ".tmp")


@dataclass(frozen=True)
class OutputPaths:
    """The names that belong to one output."""

    scores: Path

    @property
    def rejects(self) -> Path:
        """Where the rejects go."""
        return rejects_path(self.scores)

    @property
    def partials(self) -> tuple[Path, Path]:
        """What scores and rejects are called until they are complete."""
        return _partial(self.scores), _partial(self.rejects)

    @property
    def locks(self) -> tuple[Path, Path]:
        """What a run locks against others: one's scores may be called as another's rejects."""
        scores, rejects = (p.with_name(p.name + ".lock") for p in (self.scores, self.rejects))
        return scores, rejects

    @property
    def all(self) -> tuple[Path, ...]:
        """Every name that a run may give to what it keeps."""
        return (self.scores, self.rejects, *self.partials, self.state, disk.temporary(self.state))

    @property
    def state(self) -> Path:
        """How far the run has come."""
        return self.scores.with_name(self.scores.name + ".state")


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def check_free(output: Path, sources: Sequence[str], *, overwrite: bool, resume: bool) -> None:
    """Raise OutputError where an output could not be begun, or continued.

    An input is never written over, whatever the options say.
    """
    if not output.name:
        raise OutputError(f"{str(output)!r} is not the name of a file")
    if not output.parent.is_dir():
        raise OutputError(f"the folder {output.parent} does not exist")
    if output.suffix in _OWN_SUFFIXES:
        raise OutputError(
            f"{output} is called as runs call files of their own: choose another name"
        )
    paths = OutputPaths(output)
    for path in paths.locks:
        # One that is left behind by a crash is an empty file, and nobody's input.
        own = path.is_file() and not path.is_symlink() and path.stat().st_size == 0
        if path.is_symlink() or (path.exists() and not own):
            raise OutputError(f"{path} exists, and a run would lock a file of that name")
        if own and any(_is_file_of(source, path) for source in sources):
            raise OutputError(f"{path} is an input, and a run would lock a file of that name")
    for path in paths.all:
        if not (path.exists() or path.is_symlink()):
            continue
        if path.is_symlink() or not path.is_file():
            raise OutputError(f"{path} is not a regular file, and has to be one")
        for source in sources:
            if _is_file_of(source, path):
                raise OutputError(f"{path} is an input, and would be written over")
        if not (overwrite or resume):
            raise OutputError(
                f"{path} exists: pass --resume to continue an interrupted run, --overwrite to "
                "start again (in Python resume=True, overwrite=True), or choose another name"
            )
    if resume and not paths.state.exists():
        if output.exists():
            raise OutputError(
                f"{output} is complete, so there is nothing to resume: pass --overwrite to score "
                "again (in Python overwrite=True), or choose another name"
            )
        if paths.rejects.exists():
            raise OutputError(f"{paths.rejects} exists, and is of no run that could be resumed")


def _is_file_of(source: str, path: Path) -> bool:
    """Tell whether a source, standard input too, reads from a file."""
    try:
        status = os.fstat(0) if source == STDIN else Path(source).stat()
    except OSError:
        return False
    return os.path.samestat(status, path.stat())

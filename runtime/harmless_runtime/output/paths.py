"""Name the files that belong to one output."""

from dataclasses import dataclass
from pathlib import Path

from harmless_runtime.output import disk
from harmless_runtime.rows.beside import PIECES_SUFFIX, RECORD_SUFFIX, record_name, rejects_name

# Suffixes of the files that a run creates next to its output.
OWN_SUFFIXES = (".partial", ".state", ".lock", ".tmp", ".made", PIECES_SUFFIX, RECORD_SUFFIX)


def rejects_path(output: Path) -> Path:
    """Return the path of an output's rejects, as `rejects_name` says."""
    return output.with_name(rejects_name(output.name))


@dataclass(frozen=True)
class ResultPaths:
    """The names of one file of results: its final one, and those that it needs until then."""

    final: Path

    @property
    def partial(self) -> Path:
        """The name of the file while it grows."""
        return self.final.with_name(self.final.name + ".partial")

    @property
    def lock(self) -> Path:
        """An empty file that a run locks, so that no other run writes the same results."""
        return self.final.with_name(self.final.name + ".lock")


@dataclass(frozen=True)
class OutputPaths:
    """All paths that belong to one output, except the files that are made of the scores in the end.

    In an output that is a folder, their names begin with `_`, as Spark has it: whoever reads the
    folder passes them over.
    """

    output: Path
    is_folder: bool = False

    @property
    def folder(self) -> Path:
        """The folder that these files are in."""
        return self.output if self.is_folder else self.output.parent

    @property
    def scores(self) -> ResultPaths:
        """The paths of the scores."""
        return ResultPaths(self._base)

    @property
    def rejects(self) -> ResultPaths:
        """The paths of the rejects."""
        name = rejects_name(self.output.name, is_folder=self.is_folder)
        return ResultPaths(self.folder / name)

    @property
    def state(self) -> Path:
        """The path of the state file, which says how far the run got."""
        return self._base.with_name(self._base.name + ".state")

    @property
    def record(self) -> Path:
        """The path of the record that stays beside a finished output."""
        return self.folder / record_name(self.output.name, is_folder=self.is_folder)

    @property
    def pieces(self) -> Path:
        """The folder of a run on Ray, for its manifest and on one machine for its pieces."""
        return self._base.with_name(self._base.name + PIECES_SUFFIX)

    @property
    def locks(self) -> tuple[Path, Path]:
        """Both lock files. The rejects of one run can have the same path as another's scores."""
        return self.scores.lock, self.rejects.lock

    @property
    def written(self) -> tuple[Path, ...]:
        """Every path that a run may write, except its locks, its record and what is made."""
        return (
            self.scores.final,
            self.rejects.final,
            self.scores.partial,
            self.rejects.partial,
            self.state,
            disk.temporary(self.state),
            disk.temporary(self.record),
        )

    @property
    def _base(self) -> Path:
        return self.output / "_scores" if self.is_folder else self.output

"""Name the files that belong to one output."""

from dataclasses import dataclass
from pathlib import Path

from harmless_runtime.output import disk

# Suffixes of the files that a run creates next to its output.
OWN_SUFFIXES = (".partial", ".state", ".lock", ".tmp")


def rejects_path(output: Path) -> Path:
    """Return the path of an output's rejects: `x.rejects.jsonl` for `x.jsonl`."""
    if output.suffix == ".jsonl":
        return output.with_suffix(".rejects.jsonl")
    return output.with_name(output.name + ".rejects")


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
    """All paths that belong to one output."""

    output: Path

    @property
    def scores(self) -> ResultPaths:
        """The paths of the scores."""
        return ResultPaths(self.output)

    @property
    def rejects(self) -> ResultPaths:
        """The paths of the rejects."""
        return ResultPaths(rejects_path(self.output))

    @property
    def state(self) -> Path:
        """The path of the state file, which says how far the run got."""
        return self.output.with_name(self.output.name + ".state")

    @property
    def locks(self) -> tuple[Path, Path]:
        """Both lock files. The rejects of one run can have the same path as another's scores."""
        return self.scores.lock, self.rejects.lock

    @property
    def written(self) -> tuple[Path, ...]:
        """Every path that a run may write, except its locks."""
        return (
            self.scores.final,
            self.rejects.final,
            self.scores.partial,
            self.rejects.partial,
            self.state,
            disk.temporary(self.state),
        )

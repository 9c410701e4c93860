"""Say what one run is asked to do, in one value that is made once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harmless_runtime.errors import ConfigError
from harmless_runtime.rows.inputs import Inputs

Existing = Literal["refuse", "overwrite", "resume"]


@dataclass(frozen=True)
class Run:
    """Which inputs are scored into which output, and how.

    Attributes:
        inputs: the inputs. They are scored one after the other, and never written to.
        output: the file of scores. It appears under this name when all scores are there.
        existing: what to do if the output exists, whole or in part. "refuse" raises an error.
            "overwrite" starts again and replaces the output. "resume" continues an interrupted
            run, starts a run if none was interrupted, and raises an error if the output is whole.
        strict: raise an error at the first row that cannot be scored.
        details: add `tokens`, `truncated`, `source` and `line` to each line of scores.
        commit_seconds: least seconds between two commits. A commit comes only after a window. A
            crash costs the results since the last commit, and the windows that were under way.
            `benchmarks/host.py` measures the share of the time that commits take.
    """

    inputs: Inputs
    output: Path
    existing: Existing = "refuse"
    strict: bool = False
    details: bool = False
    commit_seconds: float = 5.0

    @property
    def reads_stdin(self) -> bool:
        """Whether one of the inputs is standard input."""
        return any(source.kind == "stdin" for source in self.inputs.sources)


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

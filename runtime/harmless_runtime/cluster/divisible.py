"""Check that a run can be divided among machines."""

from pathlib import Path

from harmless_runtime.cluster.leftovers import pieces_of_run
from harmless_runtime.config import ScorerConfig
from harmless_runtime.errors import ConfigError, OutputError
from harmless_runtime.run import Run


def check_divisible(run: Run, config: ScorerConfig) -> None:
    """Check that a run can be divided into pieces that other machines can read and score alike.

    Raises:
        ConfigError: it cannot.
        OutputError: an input is in the folder of the pieces.
    """
    folder = pieces_of_run(run)
    for source in run.inputs.sources:
        is_local = source.kind == "file"
        if is_local and Path(source.where).resolve().is_relative_to(folder.resolve()):
            raise OutputError(
                f"{source.name} is an input, and the run needs {folder} for its pieces",
                "choose another output",
            )
        if not source.can_be_opened_again:
            raise ConfigError(
                f"{source.name} can be read only once, and by one machine",
                "save it in a file first",
            )
    if config.batch_size == "auto":
        raise ConfigError(
            "batch_size auto depends on the free memory of one machine",
            "give `batch_size` as a number, which all workers use",
        )
    if run.strict:
        raise ConfigError("strict stops at the first row of one machine", "leave `strict` out")

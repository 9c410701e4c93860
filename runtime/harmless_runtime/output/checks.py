"""Check that a run may write its output. An input is never written over, whatever was asked for."""

from collections.abc import Iterable
from pathlib import Path

from harmless_runtime.errors import OutputError
from harmless_runtime.output.paths import OWN_SUFFIXES, OutputPaths
from harmless_runtime.rows.sources import Source
from harmless_runtime.run import Run


def check_output(run: Run) -> None:
    """Raise OutputError if the output of a run cannot be started or continued."""
    check_name(run.output)
    paths = OutputPaths(run.output)
    check_locks(paths, run.inputs.sources)
    check_existing(paths, run)


def goes_on(run: Run) -> bool:
    """Return whether a run continues an interrupted one."""
    return run.existing == "resume" and OutputPaths(run.output).state.exists()


def check_name(output: Path) -> None:
    """Raise OutputError if a path cannot be the name of an output."""
    if not output.name:
        raise OutputError(f"{str(output)!r} is not the name of a file")
    # `open_output` makes the folders that are missing.
    existing = next(folder for folder in output.absolute().parents if folder.exists())
    if not existing.is_dir():
        raise OutputError(f"{existing} is not a folder")
    if output.suffix in OWN_SUFFIXES:
        raise OutputError(
            f"{output} ends in {output.suffix}, which is reserved for a run's own files",
            "choose another name",
        )


def check_locks(paths: OutputPaths, sources: Iterable[Source]) -> None:
    """Raise OutputError if a lock file would have the name of a file that is not a lock."""
    hint = "move it away, or choose another output"
    for path in paths.locks:
        # A lock that a crash left behind is an empty file.
        is_lock = path.is_file() and not path.is_symlink() and path.stat().st_size == 0
        if path.is_symlink() or (path.exists() and not is_lock):
            raise OutputError(f"{path} exists, but the run needs this name for its lock", hint)
        if is_lock and any(source.is_same_file(path) for source in sources):
            raise OutputError(f"{path} is an input, but the run needs this name for its lock", hint)


def check_existing(paths: OutputPaths, run: Run) -> None:
    """Raise OutputError if something exists that the run may not replace or continue."""
    for path in paths.written:
        if not (path.exists() or path.is_symlink()):
            continue
        if path.is_symlink() or not path.is_file():
            raise OutputError(f"{path} is not a regular file", "choose another output")
        if any(source.is_same_file(path) for source in run.inputs.sources):
            raise OutputError(
                f"{path} is an input, and would be overwritten", "choose another output"
            )
        if run.existing == "refuse":
            raise OutputError(
                f"{path} already exists",
                "`resume` continues an interrupted run, `overwrite` starts again; or choose "
                "another output",
            )
    if run.existing != "resume" or paths.state.exists():
        return
    if paths.scores.final.exists():
        raise OutputError(
            f"{paths.scores.final} is complete, so there is nothing to resume",
            "`overwrite` scores again; or choose another output",
        )
    if paths.rejects.final.exists():
        raise OutputError(
            f"{paths.rejects.final} exists, but there is no state file to resume from",
            "move it away; `overwrite` replaces it",
        )

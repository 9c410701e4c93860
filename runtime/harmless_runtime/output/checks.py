"""Check that a run may write its output. An input is never written over, whatever was asked for."""

from collections.abc import Iterable
from pathlib import Path

from harmless_runtime.errors import OutputError
from harmless_runtime.output.paths import OWN_SUFFIXES, OutputPaths
from harmless_runtime.output.publish import check_objects, published_record
from harmless_runtime.rows.sources import Source
from harmless_runtime.run import Run
from harmless_runtime.scores.join import check_join
from harmless_runtime.scores.record import read_record
from harmless_runtime.scores.targets import targets_of


def check_output(run: Run) -> None:
    """Raise OutputError if the output of a run cannot be started or continued."""
    check_name(run.output, is_folder=run.is_folder)
    paths = OutputPaths(run.output, run.is_folder)
    check_locks(paths, run.inputs.sources)
    check_existing(paths, run)
    check_objects(run)
    check_inputs(run)


def goes_on(run: Run) -> bool:
    """Return whether a run continues an interrupted one, or finds that it is complete."""
    paths = OutputPaths(run.output, run.is_folder)
    if run.existing != "resume":
        return False
    is_complete = paths.record.exists() and any(t.final.exists() for t in targets_of(run))
    return paths.state.exists() or is_complete or published_record(run) is not None


def check_name(output: Path, *, is_folder: bool) -> None:
    """Raise OutputError if a path cannot be the name of an output."""
    if is_folder:
        if output.exists() and not output.is_dir():
            raise OutputError(f"{output} is a file, and not a folder", "choose another output")
    elif not output.name:
        raise OutputError(f"{str(output)!r} is not the name of a file")
    # `open_output` makes the folders that are missing.
    existing = next(folder for folder in output.absolute().parents if folder.exists())
    if not existing.is_dir():
        raise OutputError(f"{existing} is not a folder")
    reserved = next((own for own in OWN_SUFFIXES if output.name.endswith(own)), None)
    if reserved and not is_folder:
        raise OutputError(
            f"{output} ends in {reserved}, which is reserved for a run's own files",
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
    targets = targets_of(run)
    own = {*paths.written, *paths.locks, paths.record, *(target.made for target in targets)}
    for target in targets if run.is_folder else ():
        if target.final in own:
            raise OutputError(
                f"{target.sources[0].name} would be written as {target.final}, a name that the run "
                "needs for its own files",
                "rename the input, or score it into an output of its own",
            )
    made = [path for target in targets for path in (target.final, target.made)]
    for path in (*paths.written, *made):
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
    # A record that no output is left of is replaced, but nothing else that has its name.
    is_recorded = read_record(paths.record) is not None
    if run.existing != "resume" or paths.state.exists():
        return
    complete = [target.final for target in targets if target.final.exists()]
    if complete and not is_recorded:
        raise OutputError(
            f"{complete[0]} is complete, so there is nothing to resume",
            "`overwrite` scores again; or choose another output",
        )
    if paths.rejects.final.exists() and not complete:
        raise OutputError(
            f"{paths.rejects.final} exists, but there is no state file to resume from",
            "move it away; `overwrite` replaces it",
        )


def check_inputs(run: Run) -> None:
    """Raise OutputError if what is asked for cannot be made of the inputs, before they are scored.

    Only the first rows are looked at.
    """
    if run.join is None and not run.is_folder:
        return
    once = next((s for s in run.inputs.sources if not s.can_be_opened_again), None)
    if once is not None:
        raise OutputError(
            f"{once.name} can be read only once, and its rows have to be read again after scoring",
            "save them in a file first; ids and scores alone can be written without that",
        )
    check_join(run)

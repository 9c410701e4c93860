"""Check that a run may write its output. An input is never written over, whatever was asked for."""

from collections.abc import Sequence
from pathlib import Path

from harmless_runtime.counted import counted
from harmless_runtime.errors import OutputError
from harmless_runtime.output import disk
from harmless_runtime.output.paths import OWN_SUFFIXES, OutputPaths
from harmless_runtime.output.publish import check_objects, published_record
from harmless_runtime.rows.arrow_rows import need_pyarrow
from harmless_runtime.rows.sources import files_of, is_one_of
from harmless_runtime.run import Run
from harmless_runtime.scores.join import check_join
from harmless_runtime.scores.record import read_record
from harmless_runtime.scores.targets import Target, targets_of

# The files that inputs are, as `files_of` gives them.
Files = set[tuple[int, int]]


def check_output(run: Run) -> None:
    """Raise OutputError if the output of a run cannot be started or continued."""
    check_name(run.output, is_folder=run.is_folder)
    paths = OutputPaths(run.output, run.is_folder)
    inputs = files_of(run.inputs.sources)
    check_locks(paths, inputs)
    check_existing(paths, run, inputs)
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


def check_locks(paths: OutputPaths, inputs: Files) -> None:
    """Raise OutputError if a lock file would have the name of a file that is not a lock."""
    hint = "move it away, or choose another output"
    for path in paths.locks:
        # A lock that a crash left behind is an empty file.
        is_lock = path.is_file() and not path.is_symlink() and path.stat().st_size == 0
        if path.is_symlink() or (path.exists() and not is_lock):
            raise OutputError(f"{path} exists, but the run needs this name for its lock", hint)
        if is_lock and is_one_of(path, inputs):
            raise OutputError(f"{path} is an input, but the run needs this name for its lock", hint)


def check_existing(paths: OutputPaths, run: Run, inputs: Files) -> None:
    """Raise OutputError if something exists that the run may not replace or continue."""
    targets = targets_of(run)
    made = tuple(target.made for target in targets)
    finals = tuple(target.final for target in targets)
    check_places(paths, targets)
    is_recorded = check_record(paths, inputs)
    for path in counted((*paths.written, *finals, *made), "names of outputs are checked"):
        check_replaceable(path, inputs, may_exist=run.existing != "refuse")
    if run.existing == "resume" and not paths.state.exists():
        complete = next((final for final in finals if final.exists()), None)
        if complete and is_recorded:
            return
        if complete:
            raise OutputError(
                f"{complete} is complete, so there is nothing to resume",
                "`overwrite` scores again; or choose another output",
            )
        for partial in (paths.scores.partial, paths.rejects.partial):
            if partial.exists() and partial.stat().st_size:
                raise OutputError(
                    f"{partial} holds results, but {paths.state}, which says what they are, is "
                    "missing",
                    "put it back; `overwrite` starts again, and replaces them",
                )
        # A run has a state before it gives files these names.
        for path in (paths.rejects.final, disk.temporary(paths.record), *made):
            if path.exists():
                raise OutputError(
                    f"{path} exists, but there is no state file to resume from",
                    "move it away; `overwrite` replaces it",
                )
    theirs = OutputPaths(paths.rejects.final).record
    if paths.rejects.final.exists() and theirs.exists():
        raise OutputError(
            f"{paths.rejects.final} is the output of another run, which has left {theirs}",
            "choose another output",
        )


def check_places(paths: OutputPaths, targets: Sequence[Target]) -> None:
    """Raise OutputError if the files of a folder cannot all be in it, whatever they replace."""
    own = {*paths.written, *paths.locks, paths.record, *(target.made for target in targets)}
    files = own | {target.final for target in targets}
    for target in targets if paths.is_folder else ():
        name = target.sources[0].name
        if target.final in own:
            raise OutputError(
                f"{name} would be written as {target.final}, a name that the run needs for its own "
                "files",
                "rename the input, or score it into an output of its own",
            )
        for folder in target.final.relative_to(paths.folder).parents:
            above = paths.folder / folder
            if above in files or (disk.is_taken(above) and not above.is_dir()):
                raise OutputError(
                    f"{name} would be written as {target.final}, but {above} is a file",
                    "rename one of them, or choose another output",
                )


def check_record(paths: OutputPaths, inputs: Files) -> bool:
    """Return whether there is a record, which may be replaced if no output is left of it.

    Raises:
        OutputError: something else has its name, or the one that it has until it is whole.
    """
    for path in (paths.record, disk.temporary(paths.record)):
        check_replaceable(path, inputs, may_exist=True)
    return read_record(paths.record) is not None


def check_replaceable(path: Path, inputs: Files, *, may_exist: bool) -> None:
    """Raise OutputError if something has a name that a run needs, and may not be replaced."""
    if not disk.is_taken(path):
        return
    if path.is_symlink() or not path.is_file():
        raise OutputError(f"{path} is not a regular file", "choose another output")
    if is_one_of(path, inputs):
        raise OutputError(f"{path} is an input, and would be overwritten", "choose another output")
    if not may_exist:
        raise OutputError(
            f"{path} already exists",
            "`resume` continues an interrupted run, `overwrite` starts again; or choose another "
            "output",
        )


def check_inputs(run: Run) -> None:
    """Raise OutputError if what is asked for cannot be made of the inputs, before they are scored.

    Only the first rows are looked at.
    """
    for target in targets_of(run):
        if target.form.kind == "Parquet":
            need_pyarrow(target.final.name)
    if run.join is None and not run.is_folder:
        return
    once = next((s for s in run.inputs.sources if not s.can_be_opened_again), None)
    if once is not None:
        raise OutputError(
            f"{once.name} can be read only once, and its rows have to be read again after scoring",
            "save them in a file first; ids and scores alone can be written without that",
        )
    check_join(run)

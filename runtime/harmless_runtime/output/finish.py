"""Make the files that were asked for of the scores, and give them their final names.

Every step can be repeated after a crash: the state stays until all files have their names.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from harmless_runtime.counted import counted
from harmless_runtime.errors import OutputError
from harmless_runtime.output import disk
from harmless_runtime.output.paths import OutputPaths
from harmless_runtime.output.state import START_AGAIN, Claim, Made, State, write_state
from harmless_runtime.rows.sources import Source, files_of, is_one_of
from harmless_runtime.run import Run
from harmless_runtime.scores.make import make_results
from harmless_runtime.scores.record import FileFacts, change_of, read_record
from harmless_runtime.scores.targets import is_plain, targets_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finished:
    """A whole file that waits for its final name, and what is in it."""

    temporary: Path
    final: Path
    claim: Claim


# Makes all targets of a run under their names `made`, and returns what is in each. It is given the
# run, where the scores and rejects are, and the state that says that they are complete.
MakeFiles = Callable[[Run, OutputPaths, State], list[Claim]]


def make_files(
    run: Run, paths: OutputPaths, state: State, make: MakeFiles, *, is_resumed: bool
) -> State:
    """Make the files that were asked for, unless the lines of scores are what was asked for.

    Args:
        run: what was asked for.
        paths: where the scores and rejects are.
        state: says that they are complete.
        make: makes the files.
        is_resumed: whether an earlier run made it so, which may have been asked for other files.

    Returns:
        The state that is on the disk now.

    Raises:
        OutputError: the scores were changed, or as `make`.
        OSError: the disk is full, or failed.
    """
    made = [target.made for target in targets_of(run)]
    if state.made is not None:
        if state.made.join == run.join:
            return state
        # Other files are made under the same names.
        state = msgspec.structs.replace(state, made=None)
        write_state(paths.state, state)
    if is_plain(run):
        for path in made if is_resumed else ():
            disk.remove(path)
        return state
    for path, claim in (
        (paths.scores.partial, state.scores),
        (paths.rejects.partial, state.rejects),
    ):
        if claim.size and claim_of(path) != claim:
            raise OutputError(f"{path} has lost or changed some of its bytes", START_AGAIN)
    try:
        with run.inputs.blamed():
            claims = make(run, paths, state)
        run.inputs.check_unchanged()  # which were read again
    except BaseException:
        for path in made:
            path.unlink(missing_ok=True)
        raise
    for folder in {path.parent for path in made}:
        disk.sync_folder(folder)
    state = msgspec.structs.replace(state, made=Made(run.join, claims))
    write_state(paths.state, state)
    return state


def make_here(run: Run, paths: OutputPaths, state: State) -> list[Claim]:
    """Make the targets of a run in this process.

    Raises:
        OutputError, InputError, ConfigError: as `make_results`.
    """
    make_results(run, paths.scores.partial, paths.rejects.partial, state.lines, state.digest)
    made = counted(targets_of(run), "outputs are on the disk")
    return [claim_of(target.made) for target in made]


def claim_of(path: Path) -> Claim:
    """Wait until a file is on the disk, and return its size and hash."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            disk.sync(file)
            while chunk := file.read(2**20):
                digest.update(chunk)
            return Claim(file.tell(), digest.hexdigest())
    except FileNotFoundError:
        return Claim(-1, "")


def finished_files(run: Run, paths: OutputPaths, state: State) -> list[Finished]:
    """Return the files that a run gives in the end. The rejects come first, if there are any."""
    rejects = Finished(paths.rejects.partial, paths.rejects.final, state.rejects)
    files = [rejects] if state.rejects.size else []
    if is_plain(run):
        return [*files, Finished(paths.scores.partial, paths.scores.final, state.scores)]
    claims = state.made.claims if state.made else []
    targets = targets_of(run)
    return files + [
        Finished(target.made, target.final, claim)
        for target, claim in zip(targets, claims, strict=True)
    ]


def check_free(run: Run, paths: OutputPaths, *, rejects: bool) -> None:
    """Raise OutputError if a final name was taken while rows are still being scored.

    Args:
        run: what was asked for. It replaces nothing.
        paths: the names of its files.
        rejects: whether there will be a file of rejects.
    """
    finals = [target.final for target in targets_of(run)]
    for final in ([paths.rejects.final] if rejects else []) + finals:
        if disk.is_taken(final):
            raise _taken(final, paths, "move it away; `resume` then goes on")


def _taken(final: Path, paths: OutputPaths, hint: str) -> OutputError:
    return OutputError(
        f"{final} has appeared during the run, and is left alone; the scores are in "
        f"{paths.scores.partial}",
        hint,
    )


def check_final_names(files: list[Finished], paths: OutputPaths, replace: bool) -> None:
    """Raise OutputError if results are missing, or if a final name was taken by another file."""
    for file in files:
        is_waiting = file.temporary.exists()
        if is_waiting and disk.is_taken(file.final) and not replace:
            raise _taken(file.final, paths, "move it away; `resume` then only renames the scores")
        path = file.temporary if is_waiting else file.final
        if not path.exists() or path.stat().st_size != file.claim.size:
            raise OutputError(
                f"{path} does not have the {file.claim.size:,} bytes that the state claims",
                START_AGAIN,
            )


def remove_stale(run: Run, paths: OutputPaths, files: list[Finished]) -> None:
    """Remove what an older run has written for this output and this run does not.

    A file is left alone if the older record does not tell of it, if it was changed since, or if it
    is an input now.

    Raises:
        OutputError: the older record cannot be read.
        OSError: the disk failed.
    """
    older = read_record(paths.record)
    told = {paths.folder / facts.name: facts for facts in older.files} if older else {}
    # The record of a single output may have been copied, and tell of the output that it was beside.
    names = {paths.rejects.final, *(told if run.is_folder else ())}
    inputs = files_of(run.inputs.sources)
    for path in sorted(names - {file.final for file in files}):
        if not os.path.lexists(path):  # false for names that are too long as well
            continue
        is_unchanged = path in told and _is_unchanged(path, told[path], paths.folder)
        if is_unchanged and not is_one_of(path, inputs):
            disk.remove(path)
            disk.sync_folder(path.parent)
        else:
            logger.warning(
                "%s is of an older run, and was changed, or no record tells of it. It stays there.",
                path,
            )


def _is_unchanged(path: Path, facts: FileFacts, folder: Path) -> bool:
    """Return whether a file below a folder, and not behind a link, is what a run has written."""
    is_below = path.parent.resolve().is_relative_to(folder.resolve())
    try:
        return is_below and not path.is_symlink() and change_of(path, facts) is None
    except OutputError:
        return False


def give_final_names(
    files: list[Finished], paths: OutputPaths, state: State, sources: Iterable[Source]
) -> None:
    """Rename the files, the rejects first and the scores last, and remove the state.

    The scores come last, because their name says that the run is complete.

    Raises:
        OutputError: a file would replace one of the inputs, which are `sources`.
    """
    inputs = files_of(sources)
    if not state.rejects.size:
        disk.remove(paths.rejects.partial)
    for file in counted(files, "outputs have their names"):
        if file.temporary.exists():
            if is_one_of(file.final, inputs):
                raise OutputError(
                    f"{file.final} has become an input during the run, and is left alone",
                    "move it away; `resume` then only renames the scores",
                )
            disk.rename(file.temporary, file.final)
    for folder in {paths.folder, *(file.final.parent for file in files)}:
        disk.sync_folder(folder)
    if state.made is not None:
        # The scores go before the state does, so that no later run finds them without it.
        disk.remove(paths.scores.partial)
        disk.sync_folder(paths.folder)
    disk.remove(disk.temporary(paths.state))
    disk.remove(paths.state)
    disk.sync_folder(paths.folder)

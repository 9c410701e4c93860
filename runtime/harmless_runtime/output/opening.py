"""Open the output of a run: locked, and begun or continued."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from harmless_runtime.errors import OutputError
from harmless_runtime.output import disk
from harmless_runtime.output.checks import check_output
from harmless_runtime.output.fingerprint import check_fingerprint
from harmless_runtime.output.finish import MakeFiles, check_free, make_here
from harmless_runtime.output.locks import held_lock
from harmless_runtime.output.paths import OutputPaths
from harmless_runtime.output.state import Fingerprint, State, read_state
from harmless_runtime.output.writer import Output
from harmless_runtime.run import Run


@contextmanager
def open_output(
    run: Run,
    fingerprint: Fingerprint,
    about: Mapping[str, Any] | None = None,
    make_files: MakeFiles = make_here,
) -> Iterator[Output]:
    """Lock the output of a run, and start or resume it. Folders that are missing are made.

    If the block ends normally, the files get their final names. If it raises an exception, what was
    written is committed, so that a later run can resume.

    Args:
        run: what is asked for.
        fingerprint: what decides the results.
        about: facts for the record of the finished run.
        make_files: makes the files that were asked for, if these are not lines of scores.

    Raises:
        OutputError: the output may not be written, another run is writing it, the state belongs to
            a run with another fingerprint or is damaged, or the disk is full or failed.
    """
    check_output(run)
    with lock_output(run), open_locked(run, fingerprint, about or {}, make_files) as output:
        yield output


@contextmanager
def lock_output(run: Run) -> Iterator[None]:
    """Lock the output of a run against other runs. Folders that are missing are made.

    Raises:
        OutputError: another run is writing it, or the disk is full or failed.
    """
    paths = OutputPaths(run.output, run.is_folder)
    with ExitStack() as stack:
        with disk.os_errors_named(run.output):
            missing = [f for f in (paths.folder, *paths.folder.parents) if not f.exists()]
            paths.folder.mkdir(parents=True, exist_ok=True)
            for folder in reversed(missing):  # the innermost goes first
                stack.callback(_remove_if_empty, folder)
            for path in paths.locks:
                stack.enter_context(held_lock(path))
        yield


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


@contextmanager
def open_locked(
    run: Run, fingerprint: Fingerprint, about: Mapping[str, Any], make_files: MakeFiles
) -> Iterator[Output]:
    """Start or resume an output that is checked and locked. All else is as with `open_output`."""
    with ExitStack() as stack:
        with disk.os_errors_named(run.output):
            output = Output(run, fingerprint, resumed_state(run, fingerprint))
            try:
                output.open_parts(stack)
            except BaseException:
                if output.resumed is None:
                    output.keep()
                raise
        try:
            yield output
        except BaseException:
            with suppress(OSError):
                output.keep()
            raise
        with disk.os_errors_named(run.output):
            output.finish(about, make_files)


def resumed_state(run: Run, fingerprint: Fingerprint) -> State | None:
    """Return the state of the run that this one continues, if there is one.

    Raises:
        OutputError: it belongs to a run with another fingerprint, or is damaged; or a final name
            was taken since.
    """
    path = OutputPaths(run.output, run.is_folder).state
    if run.existing == "resume":
        state = read_state(path)
        if state is not None:
            check_fingerprint(path, state.fingerprint, fingerprint)
            if not (state.replace or state.complete):
                paths = OutputPaths(run.output, run.is_folder)
                check_free(run, paths, rejects=state.rejects.size > 0)
        return state
    if run.existing == "refuse" and path.exists():
        # The state file was not there at the check, before the lock was held.
        raise OutputError(f"another run has just left {path}", "`resume` continues it")
    return None

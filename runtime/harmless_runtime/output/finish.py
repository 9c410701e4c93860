"""Rename finished partial files to their final names. It is safe to repeat this after a crash."""

from harmless_runtime.errors import OutputError
from harmless_runtime.output import disk
from harmless_runtime.output.paths import OutputPaths, ResultPaths
from harmless_runtime.output.state import START_AGAIN, State


def check_final_names(paths: OutputPaths, state: State) -> None:
    """Raise OutputError if results are missing, or if a final name was taken by another file."""
    for results, claim in ((paths.scores, state.scores), (paths.rejects, state.rejects)):
        if results.partial.exists() and results.final.exists() and not state.replace:
            raise OutputError(
                f"{results.final} has appeared during the run, and is left alone; the scores "
                f"are in {paths.scores.partial}",
                "move it away; `resume` then only renames the scores",
            )
        if results == paths.rejects and claim.size == 0 and not results.partial.exists():
            continue
        path = results.partial if results.partial.exists() else results.final
        if not path.exists() or path.stat().st_size != claim.size:
            raise OutputError(
                f"{path} does not have the {claim.size:,} bytes that the state claims", START_AGAIN
            )


def give_final_names(paths: OutputPaths, state: State) -> None:
    """Rename the rejects and then the scores, and remove the state."""
    if state.rejects.size:
        _rename(paths.rejects)
    else:
        disk.remove(paths.rejects.partial)
        if state.replace:
            disk.remove(paths.rejects.final)
    # The scores come last, because their name says that the run is complete.
    _rename(paths.scores)
    folder = paths.output.parent
    disk.sync_folder(folder)
    disk.remove(disk.temporary(paths.state))
    disk.remove(paths.state)
    disk.sync_folder(folder)


def _rename(results: ResultPaths) -> None:
    if results.partial.exists():
        disk.rename(results.partial, results.final)

"""Complete files to their final names, which no crash and no other file can spoil."""

from pathlib import Path

from harmless_runtime.errors import OutputError
from harmless_runtime.output import disk
from harmless_runtime.output.paths import OutputPaths
from harmless_runtime.output.state import State


def check_final_names(paths: OutputPaths, state: State) -> None:
    """Raise OutputError where files are not there, or have come by a name that is to be given."""
    finals = (paths.scores, paths.rejects)
    for partial, final, (size, _) in zip(paths.partials, finals, state.claims, strict=True):
        if partial.exists() and final.exists() and not state.replace:
            raise OutputError(
                f"{final} has appeared during the run and is left alone: the scores are in "
                f"{paths.partials[0]}, and --resume names them once it is gone"
            )
        there = partial if partial.exists() else final
        if final == paths.rejects and size == 0 and not partial.exists():
            continue
        if not there.exists() or there.stat().st_size != size:
            raise OutputError(
                f"{there} has lost some of its {size:,} bytes: start again with --overwrite"
            )


def settle(paths: OutputPaths, state: State) -> None:
    """Give the final names; after a crash between any two steps, doing all again finishes it."""
    scores, rejects = paths.partials
    if state.rejects_bytes:
        _rename(rejects, paths.rejects)
    else:
        disk.remove(rejects)
        if state.replace:
            disk.remove(paths.rejects)
    # The scores last: their name says that the run is complete.
    _rename(scores, paths.scores)
    disk.sync_folder(paths.scores.parent)
    disk.remove(disk.temporary(paths.state))
    disk.remove(paths.state)
    disk.sync_folder(paths.scores.parent)


def _rename(partial: Path, final: Path) -> None:
    if partial.exists():
        disk.rename(partial, final)

"""See to what an earlier run on Ray has left beside its output."""

from pathlib import Path

from harmless_runtime.cluster.manifest import Plan, discard, read_plan
from harmless_runtime.cluster.storage import Storage
from harmless_runtime.errors import OutputError
from harmless_runtime.output import disk
from harmless_runtime.output.opening import lock_output
from harmless_runtime.output.paths import OutputPaths
from harmless_runtime.output.publish import object_url
from harmless_runtime.output.record import finished_before
from harmless_runtime.output.state import Fingerprint
from harmless_runtime.run import Run
from harmless_runtime.tally import Tally


def storage_of(run: Run) -> Storage:
    """Return where the results of the pieces of a run are put: beside its output."""
    if run.url is not None:
        return Storage(object_url(run, OutputPaths(run.output, run.is_folder).pieces.name))
    return Storage(str(pieces_of_run(run).absolute()))


def pieces_of_run(run: Run) -> Path:
    """Return the folder of a run's manifest."""
    return OutputPaths(run.output, run.is_folder).pieces


def earlier_plan(run: Run) -> Plan | None:
    """Return the plan of an interrupted run that this one continues, or None if it starts anew.

    The output is locked. If the run starts anew, pieces that it may replace are removed.

    Raises:
        OutputError: there are pieces of an interrupted run, and nothing is said about them.
    """
    folder = pieces_of_run(run)
    plan = read_plan(folder)
    if run.existing == "refuse" and plan is not None:
        raise OutputError(
            f"{folder} holds the pieces of an interrupted run",
            "`resume` continues it, `overwrite` starts again",
        )
    if run.existing == "overwrite":
        discard_pieces(run)
        return None
    return plan


def complete_before(run: Run, fingerprint: Fingerprint, earlier: Plan | None) -> Tally | None:
    """Return what was done for the output that is asked for, or None if it is not complete.

    It can be complete although there is a plan: that of a run that ended before it removed its
    pieces.

    Raises:
        OutputError: the output is complete, but of a run with other inputs or settings, or it was
            changed since.
    """
    try:
        record = finished_before(run, fingerprint)
    except OutputError:
        if earlier is None or not earlier.replace:
            raise
        return None  # it is the older output that the interrupted run was to replace
    return None if record is None else Tally(**record.counts)


def discard_pieces(run: Run) -> None:
    """Remove the pieces of a run, whose output is locked.

    Raises:
        OutputError: something else has the name of their folder, or the storage cannot be written.
    """
    folder = pieces_of_run(run)
    with disk.os_errors_named(folder):
        discard(folder, storage_of(run))


def remove_pieces(run: Run) -> None:
    """Remove what an interrupted run on Ray has left, before its output is written without Ray.

    Raises:
        OutputError: there is something, and it may not be replaced.
    """
    with lock_output(run):
        if earlier_plan(run) is not None:
            raise OutputError(
                f"{pieces_of_run(run)} holds the pieces of an interrupted run on Ray",
                "`engine` ray and `resume` continue it, `overwrite` starts again",
            )
        discard_pieces(run)

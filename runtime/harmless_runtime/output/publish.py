"""Put the files of a finished run into an object store, the scores last."""

import shutil

from harmless_runtime.errors import OutputError
from harmless_runtime.object_store import (
    check_object_name,
    hash_of_object,
    object_size,
    put_object,
    read_object,
    remove_object,
)
from harmless_runtime.output.locks import held_lock
from harmless_runtime.output.paths import OutputPaths
from harmless_runtime.rows.remote import place_of
from harmless_runtime.run import Run
from harmless_runtime.scores.record import (
    FileFacts,
    RunRecord,
    decode_record,
    hash_of,
    read_record,
)
from harmless_runtime.scores.targets import targets_of


def object_url(run: Run, name: str) -> str:
    """Return the URL of one of a run's files.

    Args:
        run: a run with a URL.
        name: the file's path below the folder that all of them are in.
    """
    assert run.url is not None
    folder = run.url.rstrip("/") if run.is_folder else run.url.rpartition("/")[0]
    return f"{folder}/{name}"


def names_of(run: Run) -> list[str]:
    """Return the names of the results that a run gives, below the folder that they are in."""
    folder = OutputPaths(run.output, run.is_folder).folder
    return [str(target.final.relative_to(folder)) for target in targets_of(run)]


def check_objects(run: Run) -> None:
    """Raise OutputError if something is in the store that the run may not replace or continue."""
    if run.url is None:
        return
    results = [object_url(run, name) for name in names_of(run)]
    paths = OutputPaths(run.output, run.is_folder)
    beside = [object_url(run, p.name) for p in (paths.rejects.final, paths.record)]
    urls = [*results, *beside]
    for url in urls:
        check_object_name(url)
    places = {place_of(url) for url in urls}
    for source in run.inputs.sources:
        if source.kind == "remote" and place_of(source.where) in places:
            raise OutputError(
                f"{source.where} is an input, and would be overwritten", "choose another output"
            )
    if run.existing == "overwrite":
        published_record(run)  # what has the name of the record has to be one
        theirs = object_url(run, OutputPaths(paths.rejects.final).record.name)
        if object_size(theirs) is not None and object_size(beside[0]) is not None:
            raise OutputError(
                f"{beside[0]} is the output of another run, which has left {theirs}",
                "choose another output",
            )
        return
    if is_staged(run):
        return
    there = [url for url in urls if object_size(url) is not None]
    if there and run.existing == "resume" and results[0] not in there:
        raise OutputError(
            f"{there[0]} exists, but not the results that would belong to it",
            "move it away; `overwrite` replaces it",
        )
    if there and run.existing == "refuse":
        raise OutputError(
            f"{there[0]} already exists",
            "`resume` continues an interrupted run, `overwrite` starts again; or choose another "
            "output",
        )
    if there and published_record(run) is None:
        raise OutputError(
            f"{there[0]} is complete, so there is nothing to resume",
            "`overwrite` scores again; or choose another output",
        )


def is_staged(run: Run) -> bool:
    """Return whether an earlier run has left something on this machine for the store."""
    paths = OutputPaths(run.output, run.is_folder)
    return run.url is not None and (paths.state.exists() or paths.record.exists())


def published_record(run: Run) -> RunRecord | None:
    """Return the record that is in the store beside the results of a run.

    Raises:
        OutputError: the record cannot be read.
    """
    if run.url is None:
        return None
    url = object_url(run, OutputPaths(run.output, run.is_folder).record.name)
    content = read_object(url)
    return None if content is None else decode_record(url, content)


def publish(run: Run) -> None:
    """Lock the output of a finished run, and put its files into the store, as `put_results` does.

    Raises:
        OutputError: as `put_results`, or another run is at it.
    """
    paths = OutputPaths(run.output, run.is_folder)
    if run.url is None or not paths.record.exists():
        return
    with held_lock(paths.scores.lock):
        put_results(run)
        remove_staged(run)


def put_results(run: Run) -> None:
    """Put the files of a finished run into the store.

    The results come last, because their names say that the run is complete.

    Raises:
        OutputError: the store cannot be written, or a result has appeared there during the run.
    """
    paths = OutputPaths(run.output, run.is_folder)
    record = None if run.url is None else read_record(paths.record)
    if record is None:  # another run may have put them there
        return
    _check_free(run, record)
    rejects = paths.rejects.final.name
    names = [file.name for file in record.files if file.name != rejects]
    has_rejects = len(names) < len(record.files)
    try:
        if record.replace:
            _remove_stale(run, record)
        for name in [*([rejects] if has_rejects else []), paths.record.name, *names]:
            put_object(paths.folder / name, object_url(run, name))
    except OutputError as error:
        raise OutputError(
            str(error), f"the results are whole in {paths.folder}; `resume` puts them there"
        ) from error


def remove_staged(run: Run) -> None:
    """Remove the files of a finished run here, which are in the store.

    The record goes last. As long as it is here, a later run puts the others there again.
    """
    paths = OutputPaths(run.output, run.is_folder)
    record = None if run.url is None else read_record(paths.record)
    if record is not None:
        for file in record.files:
            (paths.folder / file.name).unlink(missing_ok=True)
        paths.record.unlink()
        shutil.rmtree(run.output.parent)


def _check_free(run: Run, record: RunRecord) -> None:
    """Raise OutputError if the store has an object that this run has neither put there nor seen.

    What is equal to it was put there by an earlier attempt.
    """
    if record.replace:
        return
    paths = OutputPaths(run.output, run.is_folder)
    beside = FileFacts(paths.record.name, paths.record.stat().st_size, hash_of(paths.record))
    for file in (*record.files, beside):
        url = object_url(run, file.name)
        if object_size(url) is not None and not _is_unchanged(url, file):
            raise OutputError(
                f"{url} has appeared during the run, and is left alone; the results are in "
                f"{paths.folder}",
                "move it away, and `resume`",
            )


def _is_unchanged(url: str, facts: FileFacts) -> bool:
    """Return whether an object is there, and is what a run has written."""
    return object_size(url) == facts.size and hash_of_object(url) == facts.sha256


def _remove_stale(run: Run, record: RunRecord) -> None:
    """Remove what an older run has put into the store and this run does not, as `remove_stale`."""
    older = published_record(run)
    rejects = OutputPaths(run.output, run.is_folder).rejects.final.name
    names = {file.name for file in record.files}
    for file in older.files if older else []:
        is_own = run.is_folder or file.name == rejects
        url = object_url(run, file.name)
        if is_own and file.name not in names and _is_unchanged(url, file):
            remove_object(url)

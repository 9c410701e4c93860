"""Write the record of a finished run, and find whether a run is finished already."""

import platform
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

from harmless_runtime import __version__
from harmless_runtime.errors import OutputError
from harmless_runtime.object_store import object_size
from harmless_runtime.output import disk
from harmless_runtime.output.fingerprint import differences
from harmless_runtime.output.finish import Finished
from harmless_runtime.output.paths import OutputPaths
from harmless_runtime.output.publish import object_url, published_record
from harmless_runtime.output.state import Fingerprint, State, read_state
from harmless_runtime.rows.digest import InputDigest
from harmless_runtime.rows.sources import Source
from harmless_runtime.run import Run
from harmless_runtime.scores.record import (
    FORMAT_VERSION,
    FileFacts,
    HowRead,
    InputFacts,
    RunRecord,
    change_of,
    encode_record,
    hash_of,
    read_record,
)
from harmless_runtime.scores.targets import targets_of

_PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "pyarrow", "tokenizers")


def write_record(
    run: Run, paths: OutputPaths, state: State, files: list[Finished], about: Mapping[str, Any]
) -> None:
    """Write the record of a run whose results are complete.

    Raises:
        OSError: the disk is full, or failed.
    """
    record = RunRecord(
        format_version=FORMAT_VERSION,
        release=__version__,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        fingerprint=state.fingerprint,
        join=run.join,
        inputs=[
            msgspec.structs.replace(facts, rows=rows)
            for facts, rows in zip(
                _facts(run, hashed=run.join is not None), run.inputs.counts, strict=True
            )
        ],
        how_read=HowRead(
            run.inputs.shape(refuse=False),
            run.inputs.reading.system,
            run.inputs.reading.line_bytes,
            run.inputs.reading.as_is,
            dict(run.inputs.reading.roles),
        ),
        lines=state.lines,
        digest=state.digest,
        counts=state.counts,
        replace=state.replace,
        files=[
            FileFacts(str(f.final.relative_to(paths.folder)), f.claim.size, f.claim.sha256)
            for f in files
        ],
        about={**about, "versions": _versions()},
    )
    disk.replace(paths.record, encode_record(record))


def finished_before(run: Run, fingerprint: Fingerprint) -> RunRecord | None:
    """Return the record of an earlier run that did all that this run is asked for.

    Args:
        run: what is asked for.
        fingerprint: what decides its results.

    Raises:
        OutputError: the output is complete, but of a run with other inputs or settings, or it was
            changed since.
    """
    paths = OutputPaths(run.output, run.is_folder)
    if run.existing != "resume" or paths.state.exists():
        return None
    record, change_of = _finished(run, paths)
    if record is None:
        return None
    changed = differences(record.fingerprint, fingerprint)
    if record.join != run.join:
        changed.append(
            "it has ids and scores without the rows"
            if record.join is None
            else f"it has the rows joined with their scores as {record.join!r}"
        )
    changed += [change for file in record.files if (change := change_of(file))]
    if not changed:
        changed += _changed_inputs(record, run)
    if changed:
        raise OutputError(
            f"{run.name} is complete, but not by this command: {'; '.join(changed)}",
            "`overwrite` scores again; or choose another output",
        )
    return record


def earlier_fingerprint(run: Run) -> Fingerprint | None:
    """Return the fingerprint of the run that this one continues, or finds complete.

    Raises:
        OutputError: its state or its record cannot be read.
    """
    if run.existing != "resume":
        return None
    paths = OutputPaths(run.output, run.is_folder)
    state = read_state(paths.state)
    if state is not None:
        return state.fingerprint
    record, _ = _finished(run, paths)
    return None if record is None else record.fingerprint


def _finished(
    run: Run, paths: OutputPaths
) -> tuple[RunRecord | None, Callable[[FileFacts], str | None]]:
    """Return the record of the results that are there, and what tells how a file has changed."""
    if any(target.final.exists() for target in targets_of(run)):
        return read_record(paths.record), lambda file: change_of(paths.folder / file.name, file)
    return published_record(run), lambda file: _change_of_object(object_url(run, file.name), file)


def _changed_inputs(record: RunRecord, run: Run) -> list[str]:
    """Return what has changed in inputs whose names and settings are the same."""
    now = _facts(run)
    if [msgspec.structs.replace(then, sha256=None, rows=None) for then in record.inputs] == now:
        return []
    if [then.name for then in record.inputs] != [facts.name for facts in now]:
        return ["the record tells of other inputs"]
    if record.join is None:
        done = InputDigest()
        done.add(run.inputs.rows())
        is_same = (done.lines, done.text) == (record.lines, record.digest)
        return [] if is_same else ["the rows of the input are not those that were scored"]
    return [
        f"{source.name} has changed"
        for then, source in zip(record.inputs, run.inputs.sources, strict=True)
        if not _has_same_bytes(then, source)
    ]


def _has_same_bytes(then: InputFacts, source: Source) -> bool:
    if source.kind == "file":
        return hash_of(Path(source.where)) == then.sha256
    return source.version is not None and (source.size, source.version) == (then.size, then.version)


def _change_of_object(url: str, facts: FileFacts) -> str | None:
    size = object_size(url)
    if size is None:
        return f"{url} is missing"
    return None if size == facts.size else f"{url} was changed since it was written"


def _facts(run: Run, *, hashed: bool = False) -> list[InputFacts]:
    return [
        InputFacts(
            s.name,
            s.size,
            s.version,
            s.changed,
            hash_of(Path(s.where)) if hashed and s.kind == "file" else None,
        )
        for s in run.inputs.sources
    ]


@cache
def _versions() -> dict[str, str]:
    found = {"harmless-scorer": __version__, "Python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found

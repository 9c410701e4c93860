"""Check that a resumed run has the same input, model and settings as the interrupted one."""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harmless_runtime import __version__
from harmless_runtime.errors import OutputError
from harmless_runtime.output.state import START_AGAIN, Fingerprint, State
from harmless_runtime.rows.digest import InputDigest
from harmless_runtime.rows.records import Pair, Reject
from harmless_runtime.run import Run

_OF_AN_INPUT = ("the size of ", "the version of ")


def run_fingerprint(run: Run, engine: Mapping[str, Any]) -> dict[str, Any]:
    """Return what has to be equal for a run to be resumed. The content of the input is not in it.

    Args:
        run: what was asked for.
        engine: what decides the scores, as `Engine.fingerprint` gives it.
    """
    sources, reading = run.inputs.sources, run.inputs.reading
    sizes = {f"the size of {s.name}": s.size for s in sources if s.size is not None}
    versions = {f"the version of {s.name}": s.version for s in sources if s.version is not None}
    return {
        "the input": [source.name for source in sources],
        **sizes,
        **versions,
        "the shape of the rows": str(run.inputs.shape(refuse=False)),
        "system": reading.system,
        "as_is": reading.as_is,
        "roles": dict(reading.roles),
        "the longest line": reading.line_bytes,
        **engine,  # precision, provider, max_length and more: see Engine.fingerprint
        "details": run.details,
        "the release": __version__,
    }


def check_fingerprint(path: Path, then: Fingerprint, now: Fingerprint) -> None:
    """Raise OutputError if the run to be resumed differs, and name each difference.

    Args:
        path: path of the state file, for the message.
        then: fingerprint of the interrupted run.
        now: fingerprint of this run.
    """
    changed = differences(then, now)
    if changed:
        raise OutputError(
            f"cannot resume from {path}, because {'; '.join(changed)}",
            f"resume with the same input, model and settings; {START_AGAIN}",
        )


def differences(then: Fingerprint, now: Fingerprint) -> list[str]:
    """Return what differs between the fingerprints of two runs, a phrase for each difference."""
    changed = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    if "the input" in changed:  # another input has another size, which says nothing more
        changed = [name for name in changed if not name.startswith(_OF_AN_INPUT)]
    return [f"{name} was {then.get(name)!r} and is {now.get(name)!r}" for name in changed]


def skip_finished(done: InputDigest, rows: Iterator[Pair | Reject], state: State) -> None:
    """Take the finished rows from the input, and check that they have not changed.

    Args:
        done: counts the rows.
        rows: the rows of the input, from the first one.
        state: what the interrupted run left.

    Raises:
        OutputError: the input has fewer rows, or other ones.
    """
    done.add(itertools.islice(rows, state.lines))
    if state.complete and next(rows, None) is not None:
        raise OutputError(
            f"cannot resume, because the input has more than the {state.lines:,} lines that were "
            "all of it",
            f"resume with the same input; {START_AGAIN}",
        )
    if done.lines != state.lines or done.text != state.digest:
        raise OutputError(
            f"cannot resume, because the first {state.lines:,} lines of the input are not "
            "those that were scored",
            f"resume with the same input; {START_AGAIN}",
        )

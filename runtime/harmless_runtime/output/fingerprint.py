"""Check that a resumed run has the same input, model and settings as the interrupted one."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harmless_runtime import __version__
from harmless_runtime.errors import OutputError
from harmless_runtime.output.state import START_AGAIN, Fingerprint, State
from harmless_runtime.rows.sources import Line
from harmless_runtime.run import Run


def run_fingerprint(run: Run, engine: Mapping[str, Any]) -> dict[str, Any]:
    """Return what has to be equal for a run to be resumed. The content of the input is not in it.

    Args:
        run: what was asked for.
        engine: what decides the scores, as `Engine.fingerprint` gives it.
    """
    sizes = {f"the size of {s.name}": s.size for s in run.sources if s.size is not None}
    return {
        "the input": [source.name for source in run.sources],
        **sizes,
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
    changed = [
        f"{name} was {then.get(name)!r} and is {now.get(name)!r}"
        for name in {**then, **now}
        if then.get(name) != now.get(name)
    ]
    if changed:
        raise OutputError(
            f"cannot resume from {path}, because {'; '.join(changed)}",
            f"resume with the same input, model and settings; {START_AGAIN}",
        )


class InputDigest:
    """Counts the input lines whose results were written, and hashes their content."""

    def __init__(self) -> None:
        self.lines = 0
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """SHA-256 of the lines so far, in hexadecimal."""
        return self._digest.hexdigest()

    def add(self, lines: Iterable[Line]) -> None:
        """Count the next lines. Their numbers and lengths are hashed as well as their text."""
        for line in lines:
            self._digest.update(b"%d %d\n" % (line.number, line.length or len(line.raw)))
            self._digest.update(line.raw)
            self.lines += 1

    def skip(self, lines: Iterator[Line], state: State) -> None:
        """Take the finished lines from the input, and check that they have not changed.

        Raises:
            OutputError: the input has fewer lines, or other ones.
        """
        self.add(itertools.islice(lines, state.lines))
        if self.lines != state.lines or self.sha256 != state.digest:
            raise OutputError(
                f"cannot resume, because the first {state.lines:,} lines of the input are not "
                "those that were scored",
                f"resume with the same input; {START_AGAIN}",
            )

"""Make the files that a run was asked for, of its scores and its rows."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from harmless_runtime.counted import counted
from harmless_runtime.rows.sources import Source
from harmless_runtime.run import Run
from harmless_runtime.scores.log import Results
from harmless_runtime.scores.plain import kind_of_ids, write_plain
from harmless_runtime.scores.rewrite import Change, write_rows
from harmless_runtime.scores.targets import targets_of

logger = logging.getLogger(__name__)

# So many outputs are named one by one.
_FEW = 10


def make_results(run: Run, scores: Path, rejects: Path, lines: int, digest: str) -> None:
    """Write each target of a run under the name `Target.made`.

    The same scores and rows give the same bytes, however often this is done.

    Args:
        run: what was asked for.
        scores: the file with a line for each row that has a score.
        rejects: the file with a line for each other row.
        lines: number of rows.
        digest: hash of the rows, as `InputDigest` computes it.

    Raises:
        OutputError: the rows are not those that were scored, or cannot be written in this form.
        InputError, ConfigError: as `Inputs.rows`.
    """
    targets = targets_of(run)
    ids = kind_of_ids(scores) if run.join is None else "text"
    with ExitStack() as stack:
        score_lines = stack.enter_context(scores.open("rb"))
        reject_lines = stack.enter_context(rejects.open("rb")) if rejects.exists() else ()
        if run.join is None and not run.is_folder:
            logger.info("writing %s", run.output)
            write_plain(targets[0], score_lines, ids, run.details)
            return
        results = Results(score_lines, reject_lines)
        for target in counted(targets, "outputs are written"):
            if len(targets) <= _FEW:
                logger.info("writing %s", target.final)
            target.made.parent.mkdir(parents=True, exist_ok=True)
            if run.join is None:
                (source,) = target.sources
                write_plain(target, _lines(run, source, results), ids, run.details)
            else:
                write_rows(target, run.inputs, Change(results.score_of, run.join))
        results.check_end(lines, digest)


def _lines(run: Run, source: Source, results: Results) -> Iterator[bytes]:
    """Yield the lines of scores of one input."""
    for _, item in run.inputs.originals(source):
        line = results.line_of(item)
        if line is not None:
            yield line

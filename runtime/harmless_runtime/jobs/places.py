"""Say which files of a job's folder may be written, and which are there from before."""

import logging
from collections.abc import Mapping
from pathlib import Path

from harmless_runtime.choices import DEFAULT_MODELS, ScorerName
from harmless_runtime.errors import OutputError
from harmless_runtime.jobs.job import Entry, Job
from harmless_runtime.jobs.results import OwnResults, have_same_rows
from harmless_runtime.jobs.together import found_beside, scores_in
from harmless_runtime.output import disk
from harmless_runtime.output.paths import OutputPaths
from harmless_runtime.rows.beside import RECORD_SUFFIX
from harmless_runtime.rows.sources import Source, files_of, is_one_of
from harmless_runtime.run import Existing

logger = logging.getLogger(__name__)

_REPLACE = "`overwrite` scores all rows, and replaces it; or choose another output_path"


def check_places(job: Job, source: Source, existing: Mapping[ScorerName, Existing]) -> None:
    """Raise OutputError if a job cannot write a file, or may not replace it.

    Args:
        job: the job.
        source: its input, which is never written over.
        existing: what becomes of files that exist, as in `Run`, by the scorers' names.
    """
    written = [job.together]
    for entry in job.entries:
        written += [job.scratch / entry.place, job.scratch / entry.other_place]
    for folder in (job.folder, job.scratch, *{path.parent for path in written}):
        if disk.is_taken(folder) and not folder.is_dir():
            raise OutputError(f"{folder} is not a folder", "choose another output_path")
    for path in written + [disk.temporary(path) for path in written]:
        if not disk.is_taken(path):
            continue
        if path.is_symlink() or not path.is_file():
            raise OutputError(f"{path} is not a regular file", "choose another output_path")
        if is_one_of(path, files_of([source])):
            raise OutputError(f"{path} is the input, and would be overwritten")
    begun = {entry.name for entry in job.entries if _is_begun(job, entry)}
    has_own = bool(begun) or any(job.folder.glob(f"*.jsonl{RECORD_SUFFIX}"))
    for entry in job.entries:
        places = [job.scratch / path for path in (entry.place, entry.other_place)]
        own = [path for path in places if path.exists()]
        shared = [p for p in (job.together, disk.temporary(job.together)) if p.exists()]
        if existing[entry.name] == "refuse" and own + shared:
            raise OutputError(
                f"{(own + shared)[0]} already exists",
                "`resume`, or resume: true in the job, continues an interrupted run; `overwrite` "
                "starts again",
            )
        unknown = (own if entry.name not in begun else []) + ([] if has_own else shared)
        if existing[entry.name] == "resume" and unknown:
            raise OutputError(
                f"{unknown[0]} was not written by this command, which cannot go on with it",
                _REPLACE,
            )


def _is_begun(job: Job, entry: Entry) -> bool:
    paths = OutputPaths(job.output(entry))
    return paths.record.exists() or paths.state.exists()


def results_in(job: Job) -> tuple[dict[str, OwnResults], dict[str, Path]]:
    """Return the results that are in the folder of a job whose scorers are done.

    Returns:
        those of this project's scorers over the same rows, also of earlier jobs; and the files of
        other programs' scorers.

    Raises:
        OutputError: the input has changed between two scorers.
    """
    own: dict[str, OwnResults] = {
        entry.name: OwnResults(job.output(entry), job.numbers_rows) for entry in job.entries
    }
    records = {name: record for name, results in own.items() if (record := results.record)}
    first = records[job.entries[0].name]
    for name, record in records.items():
        if not have_same_rows(first, record):
            raise OutputError(
                f"{job.entries[0].name} and {name} have not scored the same rows, because "
                f"{job.input} has changed in between",
                "`overwrite` scores all rows again",
            )
    passed = set(own)
    for name in DEFAULT_MODELS.keys() - own.keys():
        place = scores_in(job.scratch / f"scorer_{name}", name)
        if place is None:
            continue
        stem = place.name.removesuffix(".jsonl").removesuffix("_merged")
        earlier = OwnResults(job.folder / f"{stem}.jsonl", job.numbers_rows)
        earlier_record = earlier.record
        if earlier_record is None or not earlier_record.fingerprint.get("details"):
            continue  # another program has written it
        passed.add(name)
        if have_same_rows(first, earlier_record):
            own[name] = earlier
        else:
            logger.warning("%s has scores of other rows, which are left out", place)
    return own, found_beside(job.scratch, passed)

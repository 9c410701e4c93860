"""Run the scorers of a job, one after the other."""

from dataclasses import replace
from importlib.util import find_spec

from rich.console import Console

from harmless_runtime.cli.console import say, say_always
from harmless_runtime.cli.score import Arguments, score
from harmless_runtime.config import ScorerConfig, with_flags
from harmless_runtime.errors import ConfigError, OutputError
from harmless_runtime.jobs.job import Entry, Job
from harmless_runtime.jobs.results import found_beside, place_scores, put_together
from harmless_runtime.model.cuda import cuda_obstacle
from harmless_runtime.output.paths import OutputPaths, rejects_path
from harmless_runtime.rows.expand import find_sources


def run_job(console: Console, arguments: Arguments, job: Job) -> bool:
    """Score the rows of a job with each scorer that is one of this project's.

    Returns:
        whether all rows have a score.

    Raises:
        ConfigError: the command line says what the job has to say.
        OutputError: a file would be replaced, and the run may not do that.
        HarmlessError: as `score`.
    """
    _check(arguments, job)
    if job.others:
        say(console, f"scorers of the job that this command does not have: {', '.join(job.others)}")
    configs = [with_flags(entry.settings, arguments.flags) for entry in job.entries]
    if not arguments.dry_run:
        _check_places(arguments, job)
    all_scored = True
    for entry, config in zip(job.entries, configs, strict=True):
        say(console, f"{entry.name}:")
        asked = replace(
            arguments,
            inputs=[job.input],
            out=str(job.output(entry)),
            resume=_resumes(arguments, entry),
            details=True,
            workers=arguments.workers or _workers(console, arguments, entry, config),
        )
        all_scored &= score(console, asked, config)
        if not arguments.dry_run:
            output = job.output(entry)
            place = job.scratch / entry.place
            place_scores(output, rejects_path(output), place, numbers_rows=job.numbers_rows)
    if not arguments.dry_run:
        own = {entry.name: job.scratch / entry.place for entry in job.entries}
        files = own | found_beside(job.scratch, own)
        count = put_together(files, job.together)
        say(console, f"{count:,} rows, with the scores of {', '.join(files)}: {job.together}")
    return all_scored


def _check(arguments: Arguments, job: Job) -> None:
    """Raise ConfigError if the command line contradicts the job."""
    for is_given, what, key in (
        (arguments.inputs, "an input", "input_path"),
        (arguments.out, "an output", "output_path"),
    ):
        if is_given:
            raise ConfigError(
                f"{job.path} is a job, whose {key} stands for {what}",
                f"change {key} there, or leave the job out",
            )
    if arguments.join:
        raise ConfigError(
            f"{job.path} is a job, whose scores are not joined to the rows",
            "score the rows without the job: harmless score ROWS -o joined.jsonl --join",
        )
    if arguments.flags["model"] is not None and len(job.entries) > 1:
        raise ConfigError(
            f"{job.path} has several scorers, and `model` would be the model of each",
            "set the model of each in the job",
        )
    if len(sources := find_sources([job.input])) > 1:
        raise ConfigError(
            f"{job.path}: input_path stands for {len(sources)} files, and a job has one",
            "harmless score without a job takes any number of them",
        )


def _resumes(arguments: Arguments, entry: Entry) -> bool:
    return arguments.resume or (entry.resume and not arguments.overwrite)


def _check_places(arguments: Arguments, job: Job) -> None:
    """Raise OutputError if a file is there that the job may not replace."""
    if arguments.overwrite:
        return
    for entry in job.entries:
        place, resumes = job.scratch / entry.place, _resumes(arguments, entry)
        paths = OutputPaths(job.output(entry))
        if resumes and place.exists() and not (paths.output.exists() or paths.state.exists()):
            raise OutputError(
                f"{place} was not written by this command, which cannot go on with it",
                "`overwrite` scores all rows, and replaces it; or choose another output_path",
            )
        taken = next((path for path in (place, job.together) if path.exists()), None)
        if taken is not None and not resumes:
            raise OutputError(
                f"{taken} already exists",
                "`resume`, or resume: true in the job, continues an interrupted run; `overwrite` "
                "starts again",
            )


def _workers(
    console: Console, arguments: Arguments, entry: Entry, config: ScorerConfig
) -> int | None:
    """Return how many GPUs score at once on Ray, or None for one device without Ray."""
    gpus = entry.gpus
    if gpus is None or gpus < 2 or config.provider not in ("auto", "cuda"):
        return None
    if arguments.all_devices or arguments.engine == "local":
        return None
    if cuda_obstacle(config.device) is not None:
        say_always(
            console, f"warning: num_gpu is {gpus}, and no GPU can be used here: the CPU scores"
        )
        return None
    if find_spec("ray") is None:
        say_always(
            console,
            f"warning: num_gpu is {gpus}, and one GPU scores: for several, pip install '.[ray]' in "
            "the project's folder",
        )
        return None
    return gpus

"""Run the scorers of a job, one after the other."""

from dataclasses import replace
from importlib.util import find_spec

from rich.console import Console

from harmless_runtime.cli.console import say, say_always
from harmless_runtime.cli.score import Arguments, score
from harmless_runtime.config import ScorerConfig, with_flags
from harmless_runtime.errors import ConfigError
from harmless_runtime.jobs.job import Entry, Job
from harmless_runtime.jobs.places import check_places, results_in
from harmless_runtime.jobs.results import OwnResults, place_scores
from harmless_runtime.jobs.together import put_together
from harmless_runtime.model.cuda import cuda_obstacle
from harmless_runtime.output import disk
from harmless_runtime.output.locks import held_lock
from harmless_runtime.output.paths import ResultPaths
from harmless_runtime.rows.expand import find_sources
from harmless_runtime.rows.sources import Source
from harmless_runtime.run import Existing, existing_mode


def run_job(console: Console, arguments: Arguments, job: Job) -> bool:
    """Score the rows of a job with each scorer that is one of this project's.

    Returns:
        as `score`, of all scorers.

    Raises:
        ConfigError: the command line says what the job has to say.
        OutputError: a file would be replaced, and the run may not do that.
        HarmlessError: as `score`.
    """
    source = _check(arguments, job)
    if job.others:
        say(console, f"left out, because this command has no such scorer: {', '.join(job.others)}")
    configs = [with_flags(entry.settings, arguments.flags) for entry in job.entries]
    each = list(zip(job.entries, configs, strict=True))
    if arguments.dry_run:
        for entry, config in each:
            say(console, f"{entry.name}:")
            score(console, _asked(console, arguments, job, entry, config), config)
        return True
    existing = {entry.name: _existing(arguments, entry) for entry in job.entries}
    check_places(job, source, existing)
    job.folder.mkdir(parents=True, exist_ok=True)
    with held_lock(ResultPaths(job.together).lock):
        scored = [_score(console, arguments, job, *one) for one in each]
        own, others = results_in(job)
        count = put_together(own, others, job.together)
    say(console, f"{job.together} has the scores of {', '.join([*own, *others])}: {count:,} rows")
    return all(scored)


def _asked(
    console: Console, arguments: Arguments, job: Job, entry: Entry, config: ScorerConfig
) -> Arguments:
    """Return the arguments of the run that an entry stands for."""
    return replace(
        arguments,
        inputs=[job.input],
        out=str(job.output(entry)),
        resume=_existing(arguments, entry) == "resume",
        details=True,
        workers=arguments.workers or _workers(console, arguments, entry, config),
    )


def _score(
    console: Console, arguments: Arguments, job: Job, entry: Entry, config: ScorerConfig
) -> bool:
    """Score the rows with one scorer, and put its scores where the job's own program would."""
    say(console, f"{entry.name}:")
    all_scored = score(console, _asked(console, arguments, job, entry, config), config)
    place_scores(OwnResults(job.output(entry), job.numbers_rows), job.scratch / entry.place)
    disk.remove(job.scratch / entry.other_place)  # the scores of an earlier run
    return all_scored


def _existing(arguments: Arguments, entry: Entry) -> Existing:
    resume = arguments.resume or (entry.resume and not arguments.overwrite)
    return existing_mode(overwrite=arguments.overwrite, resume=resume)


def _check(arguments: Arguments, job: Job) -> Source:
    """Return the input. Raise ConfigError if the command line contradicts the job."""
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
    if len(job.entries) > 1 and not sources[0].can_be_opened_again:
        raise ConfigError(
            f"{job.path}: input_path is {sources[0].name}, which can be read only once, and each "
            "scorer reads it",
            "save the rows in a file first",
        )
    return sources[0]


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

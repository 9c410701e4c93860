"""Read a job: a YAML file that names one input, a folder for the scores, and a list of scorers.

The keys are those of https://github.com/OpenDataArena/ODA-DataScorer, `model_based/main.py`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from harmless_runtime.choices import DEFAULT_MODELS, ScorerName
from harmless_runtime.config import checked, make_config
from harmless_runtime.errors import ConfigError
from harmless_runtime.rows.remote import is_remote


class _JobKeys(BaseModel):
    """The keys of the file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    input_path: str = Field(min_length=1)
    output_path: str = Field(min_length=1)
    scorers: list[dict[str, Any]]
    num_gpu: int | None = Field(None, ge=0)
    num_gpu_per_job: int = Field(1, ge=0)
    resume: bool = False
    data_with_id: bool = False


class EntryKeys(BaseModel):
    """The keys of a scorer in the list that are no settings."""

    model_config = ConfigDict(extra="ignore", strict=True)

    sub_name: str | None = Field(None, pattern=r"^[^/\x00]+$")
    num_gpu_per_job: int | None = Field(None, ge=0)
    resume: bool | None = None


@dataclass(frozen=True)
class Entry:
    """A scorer of a job that is one of this project's.

    Attributes:
        name: which one.
        settings: the keys of a configuration, checked.
        place: where the job's own program would put the scores: below the job's folder.
        resume: whether to continue an interrupted run.
        gpus: number of GPUs that score at once. None leaves it to the provider.
    """

    name: ScorerName
    settings: dict[str, Any]
    place: Path
    resume: bool
    gpus: int | None


@dataclass(frozen=True)
class Job:
    """What a job asks for.

    Attributes:
        path: the YAML file.
        input: the rows.
        folder: where the scores go.
        numbers_rows: whether rows without an id get their number as the id.
        entries: this project's scorers.
        others: the names of the other scorers in the list.
    """

    path: Path
    input: str
    folder: Path
    numbers_rows: bool
    entries: tuple[Entry, ...]
    others: tuple[str, ...]

    @property
    def scratch(self) -> Path:
        """The folder with a folder for each scorer, of whichever program."""
        return self.folder / "master_temp"

    @property
    def together(self) -> Path:
        """The file with the scores of all scorers."""
        return self.folder / "pointwise_scores.jsonl"

    def output(self, entry: Entry) -> Path:
        """Return the output of the run that an entry stands for."""
        return self.folder / entry.place.name.replace("_merged.jsonl", ".jsonl")


def make_job(path: Path, loaded: dict[str, Any]) -> Job:
    """Check a job.

    Args:
        path: the YAML file, for errors.
        loaded: what it holds.

    Raises:
        ConfigError: keys are missing or unknown, values have the wrong type or are out of range, or
            no scorer in the list is one of this project's.
    """
    keys = checked(_JobKeys, loaded, str(path))
    if is_remote(keys.output_path):
        raise ConfigError(f"{path}: output_path is {keys.output_path}, and has to be a folder here")
    names = [str(entry.get("name")) for entry in keys.scorers]
    own = [name for name in names if name in DEFAULT_MODELS]
    if not own:
        raise ConfigError(
            f"{path} lists {', '.join(names) or 'no scorers'}",
            f"this command has {' and '.join(DEFAULT_MODELS)}",
        )
    if len(own) > len(set(own)):
        raise ConfigError(
            f"{path} lists {max(own, key=own.count)} twice, and both would have the same output",
            "give the second one a job of its own, with another output_path",
        )
    entries = [_entry(path, keys, e) for e in keys.scorers if e.get("name") in DEFAULT_MODELS]
    others = tuple(name for name in names if name not in DEFAULT_MODELS)
    folder = Path(keys.output_path)
    return Job(path, keys.input_path, folder, not keys.data_with_id, tuple(entries), others)


def _entry(path: Path, job: _JobKeys, entry: dict[str, Any]) -> Entry:
    name: ScorerName = entry["name"]
    origin = f"{path}, {name}"
    keys = checked(EntryKeys, entry, origin)
    given = {key: value for key, value in entry.items() if key not in EntryKeys.model_fields}
    settings = make_config(given, origin).model_dump(exclude_unset=True)
    per_job = job.num_gpu_per_job if keys.num_gpu_per_job is None else keys.num_gpu_per_job
    gpus = 0 if per_job == 0 else job.num_gpu
    if gpus == 0:
        settings.setdefault("provider", "cpu")
    # The program divides the rows among jobs if it can run several at once.
    is_divided = per_job > 0 and (job.num_gpu or 0) // per_job > 1
    file = f"{keys.sub_name or name}{'_merged' if is_divided else ''}.jsonl"
    resume = job.resume if keys.resume is None else keys.resume
    return Entry(name, settings, Path(f"scorer_{name}", file), resume, gpus)

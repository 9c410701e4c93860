"""Read a job: a YAML file that names one input, a folder for the scores, and a list of scorers.

The keys are those of https://github.com/OpenDataArena/ODA-DataScorer, `model_based/main.py`.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from harmless_runtime.choices import DEFAULT_MODELS, ScorerName
from harmless_runtime.config import checked, checked_settings
from harmless_runtime.errors import ConfigError
from harmless_runtime.rows.remote import is_remote
from harmless_runtime.run import without_parents

_STEM = re.compile(r"[\w-]{1,200}")


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

    sub_name: str | None = None
    num_gpu_per_job: int | None = Field(None, ge=0)
    resume: bool | None = None


@dataclass(frozen=True)
class Entry:
    """A scorer of a job that is one of this project's.

    Attributes:
        name: which one.
        settings: the keys of a configuration, checked.
        place: where the job's own program would put the scores, below its folder for all scorers.
        other_place: where it would put them with another number of GPUs.
        resume: whether to continue an interrupted run.
        gpus: number of GPUs that score at once. None leaves it to the provider.
    """

    name: ScorerName
    settings: dict[str, Any]
    place: Path
    other_place: Path
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
        return self.folder / min(entry.place.name, entry.other_place.name, key=len)


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
    for key in ("input_path", "output_path"):
        if "\0" in getattr(keys, key):
            raise ConfigError(f"{path}: {key} holds a null character, which no path may have")
    if is_remote(keys.output_path):
        raise ConfigError(f"{path}: output_path is {keys.output_path}, and has to be a folder here")
    names = [str(entry.get("name", "a scorer without a name")) for entry in keys.scorers]
    own = [name for name in names if name in DEFAULT_MODELS]
    if not own:
        raise ConfigError(
            f"{path} lists {', '.join(names) or 'no scorers'}",
            f"this command has {' and '.join(DEFAULT_MODELS)}",
        )
    if len(own) > len(set(own)):
        raise ConfigError(
            f"{path} lists {max(own, key=own.count)} twice, and pointwise_scores.jsonl has one "
            "place for its scores",
            "give the second one a job of its own, with another output_path",
        )
    entries = [_entry(path, keys, e) for e in keys.scorers if str(e.get("name")) in own]
    others = tuple(name for name in names if name not in DEFAULT_MODELS)
    folder = without_parents(Path(keys.output_path))
    job = Job(path, keys.input_path, folder, not keys.data_with_id, tuple(entries), others)
    if len({job.output(entry) for entry in entries}) < len(entries):
        raise ConfigError(
            f"{path}: {' and '.join(own)} would have the same output", "change a sub_name"
        )
    return job


def _entry(path: Path, job: _JobKeys, entry: dict[str, Any]) -> Entry:
    name: ScorerName = entry["name"]
    origin = f"{path}, {name}"
    keys = checked(EntryKeys, entry, origin)
    given = {key: value for key, value in entry.items() if key not in EntryKeys.model_fields}
    settings = {"as_is": True, **checked_settings(given, origin)}
    per_job = job.num_gpu_per_job if keys.num_gpu_per_job is None else keys.num_gpu_per_job
    gpus = 0 if per_job == 0 else job.num_gpu
    if gpus == 0:
        settings.setdefault("provider", "cpu")
    # The program divides the rows among jobs if it can run several at once.
    is_divided = per_job > 0 and (job.num_gpu or 0) // per_job > 1
    folder, stem = Path(f"scorer_{name}"), name if keys.sub_name is None else keys.sub_name
    if not _STEM.fullmatch(stem) or stem.endswith("_merged") or stem == "pointwise_scores":
        raise ConfigError(
            f"{origin}: sub_name is {stem!r}, and its files cannot be named by that",
            "it has letters, digits, - and _, does not end in _merged, and is not pointwise_scores",
        )
    place, other = folder / f"{stem}.jsonl", folder / f"{stem}_merged.jsonl"
    if is_divided:
        place, other = other, place
    resume = job.resume if keys.resume is None else keys.resume
    return Entry(name, settings, place, other, resume, gpus)

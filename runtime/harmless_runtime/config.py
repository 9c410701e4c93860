"""Turn a YAML file and command-line flags into one checked configuration."""

import difflib
import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from harmless_runtime.choices import (
    DEFAULT_MODEL,
    DEFAULT_MODELS,
    ComputeChoice,
    FormatName,
    PrecisionChoice,
    ProviderChoice,
    ScorerName,
    SpeakerRole,
    SystemChoice,
)
from harmless_runtime.errors import ConfigError, one_line

LINE_BYTES = 4 * 2**20
# The errors of PyYAML, and those that its conversions of a value raise.
_YAML_ERRORS = (
    yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError,
)  # fmt: skip
# Shortens values in messages: a few lines of YAML can stand for a value of any size.
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring = 2, 200


def _check_batch_size(value: object) -> object:
    if value == "auto" or (type(value) is int and 1 <= value <= 65536):
        return value
    raise PydanticCustomError("batch_size", "input should be an integer from 1 to 65536, or auto")


Checked = TypeVar("Checked", bound=BaseModel)
BatchSize = Annotated[int | Literal["auto"], PlainValidator(_check_batch_size)]


class ScorerConfig(BaseModel):
    """How to score. `make_config` and `load_config` make it, and report what is wrong.

    Attributes:
        name: the name of the scorer. It decides the model if none is named.
        model: `demo`, an artifact folder, or a checkpoint (a folder or a Hugging Face id).
        batch_size: bounds memory: a batch holds at most `batch_size * max_length` tokens, padding
            included, so short rows go many at a time. On a CPU a batch holds at most 512 tokens, or
            one row. `auto` takes as many tokens as the free memory of a GPU has room for, up to
            65,536.
        max_length: most tokens of a row. By default, and at most, the artifact's.
        provider: the execution provider.
        precision: of a checkpoint's export. `auto` is fp16 on CUDA and fp32 on a CPU.
        device: number of the CUDA device.
        gpu_memory: most GPU memory for weights and activations, in GB.
        compute: what OpenVINO computes in. `auto` is bf16 on a processor with AMX, and else fp32.
        streams: batches that run at once on a CPU. They share its cores, and the scores do not
            depend on it. By default `harmless score` runs one for each core, and Python one at a
            time on all cores, which is the fastest for a few rows.
        format: the name of a known shape of rows. By default the shape is recognised.
        columns: where a row's texts are, by `instruction`, `input`, `output`, `messages`,
            `history`, `system` and `id`; and within each turn by `role` and `content`.
        roles: whose words the turns of a speaker have, by the speaker's name in any case. They come
            before the roles that are known.
        system: what becomes of the system texts of conversations.
        as_is: take requests that are dialogues or chat templates as words, as the original scorer
            does, and leave the tokens that end an answer where they are.
        max_line_bytes: a longer line of input is rejected.
        check_files: compare the artifact's files with their hashes before they are loaded.
        allow_pickle: export a checkpoint whose weights are only there as a pickle.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: ScorerName = "Gpt2HarmlessScorer"
    model: str = Field(DEFAULT_MODEL, min_length=1)
    batch_size: BatchSize = 8
    max_length: int | None = Field(None, ge=1)
    provider: ProviderChoice = "auto"
    precision: PrecisionChoice = "auto"
    device: int = Field(0, ge=0)
    gpu_memory: float | None = Field(None, gt=0, le=1_000_000, allow_inf_nan=False)
    compute: ComputeChoice = "auto"
    streams: int | None = Field(None, ge=1, le=1024)
    format: FormatName | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    roles: dict[str, SpeakerRole] = Field(default_factory=dict)
    system: SystemChoice = "drop"
    as_is: bool = False
    max_line_bytes: int = Field(LINE_BYTES, ge=1, le=2**30)
    check_files: bool = True
    allow_pickle: bool = False

    @field_validator("roles")
    @classmethod
    def _lower_names(cls, roles: dict[str, SpeakerRole]) -> dict[str, SpeakerRole]:
        lower = {name.strip().lower(): role for name, role in roles.items()}
        if len(lower) < len(roles):
            raise PydanticCustomError("roles", "two names differ only in case or in white space")
        return lower

    @model_validator(mode="before")
    @classmethod
    def _fill_model(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Take the model that belongs to the scorer's name, if no model is named."""
        name: Any = settings.get("name")
        if "model" in settings or not isinstance(name, str) or name not in DEFAULT_MODELS:
            return settings
        return settings | {"model": DEFAULT_MODELS[name]}


def make_config(settings: dict[str, Any], origin: str = "configuration") -> ScorerConfig:
    """Check settings.

    Args:
        settings: the keys of the YAML file.
        origin: where the settings come from, for the error.

    Raises:
        ConfigError: keys are unknown, or values have the wrong type or are out of range. The
            message gives every such key, its value and what is allowed.
    """
    return checked(ScorerConfig, settings, origin)


def checked(kind: type[Checked], settings: dict[str, Any], origin: str) -> Checked:
    """Return settings as an instance of `kind`. Errors are those of `make_config`."""
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        keys = list(kind.model_fields)
        faults = [
            _describe(".".join(map(str, e["loc"])), e["type"], e["input"], e["msg"], keys)
            for e in error.errors()
        ]
        unknown = any(each["type"] == "extra_forbidden" for each in error.errors())
        hint = f"the keys are {', '.join(keys)}" if unknown else None
        raise ConfigError(f"{origin}: {'; '.join(faults)}", hint) from None


def _describe(key: str, kind: str, value: object, message: str, keys: list[str]) -> str:
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(key, keys, 1)
        return f"unknown key {key!r}" + (f" (did you mean {near[0]}?)" if near else "")
    return f"{key} is {_SHORT.repr(value)}: {message[:1].lower()}{message[1:]}"


def load_config(path: Path | None, flags: dict[str, Any]) -> ScorerConfig:
    """Read a YAML file, if there is one, and replace its settings by the flags that are not None.

    Raises:
        ConfigError: as `make_config`, or the file cannot be read or is not a YAML mapping.
    """
    loaded = {} if path is None else read_yaml(path)
    if "scorers" in loaded:
        raise ConfigError(
            f"{path} is a job with a list of scorers, which only `harmless score` runs",
            "put the entry of Gpt2HarmlessScorer (name, model, batch_size, max_length) in a "
            "file of its own",
        )
    return with_flags(checked_settings(loaded, str(path)), flags)


def checked_settings(loaded: dict[str, Any], origin: str) -> dict[str, Any]:
    """Return the settings that a mapping holds, checked; without those that it leaves out.

    Raises:
        ConfigError: as `make_config`.
    """
    return make_config(loaded, origin).model_dump(exclude_unset=True)


def with_flags(settings: dict[str, Any], flags: dict[str, Any]) -> ScorerConfig:
    """Check settings, of which some are replaced by the flags that are not None.

    Raises:
        ConfigError: as `make_config`.
    """
    return make_config(settings | {k: v for k, v in flags.items() if v is not None}, "options")


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping that a YAML file holds. An empty file holds an empty one.

    Raises:
        ConfigError: the file cannot be read, or is not a YAML mapping.
    """
    try:
        loaded = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except _YAML_ERRORS as error:
        raise ConfigError(f"{path} is not valid YAML: {one_line(error)}") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict) or not all(isinstance(key, str) for key in loaded):
        raise ConfigError(f"{path} does not hold a mapping, such as batch_size: 8")
    return loaded

"""Find a checkpoint, and read its configuration. Refuse what the graph cannot compute exactly."""

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harmless_runtime.errors import CheckpointError
from harmless_runtime.model.artifact import Artifact, is_artifact

logger = logging.getLogger(__name__)

SAFETENSORS = "model.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk.

    Attributes:
        folder: where it is.
        name: what it was asked for by.
        revision: its commit on the hub, if it came from there.
        allow_pickle: read its weights from a pickle if there is no safetensors file.
    """

    folder: Path
    name: str
    revision: str | None = None
    allow_pickle: bool = False


@dataclass(frozen=True)
class Gpt2Config:
    """The part of a GPT-2 `config.json` that decides a score. Sizes are numbers of elements.

    `pad_token_id` is as in the file, where it need not be a number.
    """

    vocab_size: int
    n_positions: int
    n_embd: int
    n_layer: int
    n_head: int
    n_inner: int
    layer_norm_epsilon: float
    pad_token_id: object


def locate(model: str, revision: str | None = None, *, allow_pickle: bool = False) -> Checkpoint:
    """Find a checkpoint: a folder, or else an id on the Hugging Face hub, which is downloaded.

    Args:
        model: the folder or id.
        revision: branch, tag or commit of an id.
        allow_pickle: as in `Checkpoint`.

    Raises:
        CheckpointError: there is no such folder, or as `hub.download`.
    """
    folder = Path(os.path.expanduser(model))  # noqa: PTH111 - pathlib's raises for an unknown user
    if folder.is_dir():
        if revision is not None:
            raise CheckpointError(
                f"revision is {revision}, but {model} is a folder",
                "leave `revision` out, or name a Hugging Face id",
            )
        if is_artifact(folder):
            raise CheckpointError(f"{model} is an artifact already", "name a checkpoint")
        # `verify` has to find it from any folder.
        return Checkpoint(folder, str(folder.absolute()), None, allow_pickle)
    # An id is `name` or `owner/name`. Anything else was meant as a path.
    if folder.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
        raise CheckpointError(f"{model} does not exist")
    from harmless_export.hub import download

    snapshot = download(model, revision, allow_pickle=allow_pickle)
    # In the hub's cache, the folder of a snapshot has the name of its commit.
    return Checkpoint(snapshot, model, snapshot.name, allow_pickle)


def checkpoint_of(
    artifact: Artifact, checkpoint: str | None = None, *, allow_pickle: bool = False
) -> Checkpoint:
    """Find the checkpoint that an artifact was exported from.

    Args:
        artifact: the artifact.
        checkpoint: where it is, if not where the artifact's manifest says.
        allow_pickle: as in `Checkpoint`.

    Raises:
        CheckpointError: it cannot be found.
    """
    manifest = artifact.manifest
    if checkpoint is not None:
        return locate(checkpoint, allow_pickle=allow_pickle)
    try:
        return locate(manifest.source, manifest.revision, allow_pickle=allow_pickle)
    except CheckpointError as error:
        raise CheckpointError(
            f"{error} (this is the checkpoint that {artifact.folder} names)",
            f"set `checkpoint` to where it is now{f'; {error.hint}' if error.hint else ''}",
        ) from error


def read_config(folder: Path) -> Gpt2Config:
    """Read `config.json` as plain JSON.

    Raises:
        CheckpointError: the file is missing or malformed, or it describes a model whose scores the
            graph would only approximate. The message names the key, its value and what is needed.
    """
    raw = read_json(folder / "config.json")
    if (folder / "adapter_config.json").exists():
        raise CheckpointError(f"{folder} is an adapter", "merge it into its base model first")

    def need(key: str, default: object, allowed: tuple[object, ...], why: str) -> None:
        if (value := raw.get(key, default)) not in allowed:
            raise CheckpointError(f"{folder}: {key} is {value!r}, but {why}")

    need("model_type", None, ("gpt2",), "only 'gpt2' can be exported")
    need("activation_function", "gelu_new", _TANH_GELU,
         "the fused graph computes the tanh form of GELU, 'gelu_new'")  # fmt: skip
    # Whether transformers scales here depends on its attention implementation.
    need("scale_attn_weights", True, (True,), "only true can be exported")
    need("scale_attn_by_inverse_layer_idx", False, (False,), "only false can be exported")
    _check_dtype(folder, raw)
    need("quantization_config", None, (None,), "only unquantised weights can be exported")

    width = _positive(folder, raw, "n_embd", 768)
    config = Gpt2Config(
        vocab_size=_positive(folder, raw, "vocab_size", 50257),
        n_positions=_positive(folder, raw, "n_positions", 1024),
        n_embd=width,
        n_layer=_positive(folder, raw, "n_layer", 12),
        n_head=_positive(folder, raw, "n_head", 12),
        n_inner=_positive(folder, raw, "n_inner", 4 * width),
        layer_norm_epsilon=_epsilon(folder, raw.get("layer_norm_epsilon", 1e-5)),
        pad_token_id=raw.get("pad_token_id"),
    )
    if config.n_embd % config.n_head:
        raise CheckpointError(
            f"{folder}: n_embd {config.n_embd} is not a multiple of n_head {config.n_head}"
        )
    return config


def tell_of_normalization(folder: Path) -> None:
    """Log a warning if `config.json` has what OpenRLHF may normalise rewards with.

    OpenRLHF writes the mean and the standard deviation after each evaluation of a training. Whether
    it uses them is its user's choice: by default it does not.
    """
    raw = read_json(folder / "config.json")
    mean, std = raw.get("mean"), raw.get("std")
    if mean is not None and std is not None:
        logger.warning(
            "config.json has mean %s and std %s, by which OpenRLHF normalises rewards if it is run "
            "with --reward.normalize_enable. The scores here are not normalised: its rewards are "
            "then (score - mean) / std",
            mean,
            std,
        )


# The names that transformers has for the tanh form of GELU.
_TANH_GELU = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_accurate")


def _check_dtype(folder: Path, raw: dict[str, Any]) -> None:
    """Raise CheckpointError if transformers does not load the configuration for its type.

    A type that it does load changes no score, because all scores are computed in float32.
    """
    key = "torch_dtype" if raw.get("dtype") is None else "dtype"
    value = raw.get(key)
    if isinstance(value, str) and not hasattr(torch, value):
        raise CheckpointError(
            f"{folder}: {key} is {value!r}, but PyTorch has no type of this name",
            f"set {key} to 'float32' in config.json, or leave it out",
        )


def _epsilon(folder: Path, value: object) -> float:
    if not isinstance(value, float | int) or isinstance(value, bool) or not 0 < value < 1:
        raise CheckpointError(
            f"{folder}: layer_norm_epsilon is {value!r}, and has to be between 0 and 1"
        )
    return float(value)


# Other names for GPT-2's keys. transformers reads these first.
_ALIASES = {
    "n_embd": "hidden_size",
    "n_positions": "max_position_embeddings",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
}


def _positive(folder: Path, raw: dict[str, Any], key: str, default: int) -> int:
    value = raw.get(_ALIASES.get(key, key), raw.get(key))
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CheckpointError(f"{folder}: {key} is {value!r}, and has to be a positive integer")
    return value


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file of a checkpoint.

    Raises:
        CheckpointError: the file is missing, or is not a JSON object.
    """
    try:
        content = path.read_bytes()
        value = json.loads(content)
    except FileNotFoundError:
        raise CheckpointError(
            f"{path.parent} is not a Hugging Face checkpoint: it has no {path.name}"
        ) from None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        reason = error if content else "it is empty"
        raise CheckpointError(
            f"cannot read {path}: {reason}", "copy or download the file again"
        ) from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return value

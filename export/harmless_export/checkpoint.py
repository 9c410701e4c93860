"""A Hugging Face id or folder to a checked configuration and its weights, read when asked for."""

import json
import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open

from harmless_runtime.errors import CheckpointError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
STORED_AS = ("F32", "F16", "BF16")

# Everything the model and its tokenizer consist of, and nothing that can carry code.
DOWNLOADED = ["*.safetensors", "*.json", "merges.txt"]


@dataclass(frozen=True)
class Source:
    """A checkpoint on disk, and the name and commit that it goes by."""

    folder: Path
    name: str
    revision: str | None


@dataclass(frozen=True)
class Gpt2Config:
    """The part of a GPT-2 `config.json` that decides a score; sizes are counts of elements."""

    vocab_size: int
    n_positions: int
    n_embd: int
    n_layer: int
    n_head: int
    n_inner: int
    layer_norm_epsilon: float
    pad_token_id: int | None


def locate(model: str, revision: str | None = None) -> Source:
    """Find a checkpoint: a folder as it is, anything else as an id on the Hugging Face hub.

    Only safetensors and JSON files (and `merges.txt`) are downloaded, with a progress bar.

    Raises:
        CheckpointError: there is no such folder or id, or the hub cannot be reached.
    """
    folder = Path(os.path.expanduser(model))  # noqa: PTH111 - raises for no user
    if folder.is_dir():
        if revision is not None:
            raise CheckpointError(f"--revision {revision} goes with a hub id; {model} is a folder")
        return Source(folder, model, None)
    # An id is `name` or `owner/name`; anything else was meant as a path.
    if folder.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
        raise CheckpointError(f"{model} does not exist")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        snapshot = Path(snapshot_download(model, revision=revision, allow_patterns=DOWNLOADED))
    except HFValidationError as error:
        raise CheckpointError(f"{model} is neither a folder nor a valid hub id") from error
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"{model} is not a folder here, and the Hugging Face hub cannot be reached to "
            "download it: check the name and the network, or pass the folder of a copy"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"cannot download {model}: {reason}") from error
    # The cache names a snapshot's folder after its commit.
    return Source(snapshot, model, snapshot.name)


def read_config(folder: Path) -> Gpt2Config:
    """Read `config.json` as plain JSON and refuse what the graph cannot represent exactly.

    Raises:
        CheckpointError: the file is missing or malformed, or it describes a model whose scores
            the graph would only approximate; the message names the key, its value and the need.
    """
    raw = _read_json(folder / "config.json")
    if (folder / "adapter_config.json").exists():
        raise CheckpointError(f"{folder} holds an adapter: merge it into its base model first")

    def need(key: str, default: object, allowed: tuple[object, ...], why: str) -> None:
        if (value := raw.get(key, default)) not in allowed:
            raise CheckpointError(f"{folder}: {key} is {value!r}, and {why}")

    need("model_type", None, ("gpt2",), "only 'gpt2' can be exported")
    names = raw.get("id2label")
    labels = len(names) if isinstance(names, dict) and names else raw.get("num_labels", 2)
    if labels != 1:
        raise CheckpointError(f"{folder}: the model has {labels!r} labels, a reward model has 1")
    need("activation_function", "gelu_new", ("gelu_new", "gelu_pytorch_tanh"),
         "the fused graph computes the tanh form of GELU, 'gelu_new'")  # fmt: skip
    # transformers itself scales here or not, depending on its attention implementation.
    need("scale_attn_weights", True, (True,), "only true can be exported")
    need("scale_attn_by_inverse_layer_idx", False, (False,), "only false can be exported")
    need("reorder_and_upcast_attn", False, (False,), "only false can be exported")
    need("add_cross_attention", False, (False,), "only false can be exported")
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


def _epsilon(folder: Path, value: object) -> float:
    if not isinstance(value, float | int) or isinstance(value, bool) or not 0 < value < 1:
        raise CheckpointError(
            f"{folder}: layer_norm_epsilon is {value!r}, and has to be between 0 and 1"
        )
    return float(value)


# The names that transformers takes for GPT-2's own, and prefers to them.
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


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(
            f"{path.parent} is not a Hugging Face checkpoint: it has no {path.name}"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} does not hold a JSON object")
    return value


class Weights:
    """The tensors of one or several safetensors files, memory-mapped and read one by one.

    Raises:
        CheckpointError: there is no safetensors file (a pickle is refused: loading one can run
            code), or one is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = ExitStack()
        self._file_of: dict[str, Any] = {}
        try:
            for file in _weight_files(folder):
                handle = self._files.enter_context(safe_open(file, framework="pt"))
                self._file_of.update(dict.fromkeys(handle.keys(), handle))
        except (SafetensorError, OSError) as error:
            self._files.close()
            raise CheckpointError(f"cannot read the weights in {folder}: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._files.close()

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """Raise CheckpointError unless a tensor is there, in that shape, as a float; reads none."""
        if name not in self._file_of:
            why = (
                "it is a language model without a reward head"
                if name == "score.weight"
                else "it is not a complete GPT2ForSequenceClassification"
            )
            raise CheckpointError(f"{self._folder} has no tensor {name}: {why}")
        stored = self._file_of[name].get_slice(name)
        if tuple(stored.get_shape()) != shape:
            raise CheckpointError(
                f"{self._folder}: {name} has shape {tuple(stored.get_shape())}, and config.json "
                f"asks for {shape}"
            )
        if stored.get_dtype() not in STORED_AS:
            raise CheckpointError(
                f"{self._folder}: {name} is stored as {stored.get_dtype()}, and only "
                f"{', '.join(STORED_AS)} are read"
            )

    def read(self, name: str) -> torch.Tensor:
        """Return a tensor in float32, whatever it is stored in.

        Raises:
            CheckpointError: it holds values that are not finite.
        """
        tensor: torch.Tensor = self._file_of[name].get_tensor(name).float()
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{self._folder}: {name} holds values that are not finite")
        return tensor


def _weight_files(folder: Path) -> list[Path]:
    if (folder / SINGLE).exists():
        return [folder / SINGLE]
    if (folder / INDEX).exists():
        mapping = _read_json(folder / INDEX).get("weight_map")
        listed = list(mapping.values()) if isinstance(mapping, dict) else []
        if not listed or any(not isinstance(n, str) or Path(n).name != n for n in listed):
            raise CheckpointError(f"{folder / INDEX} does not name files of its own folder")
        names = sorted(set(listed))
        if missing := [n for n in names if not (folder / n).exists()]:
            raise CheckpointError(f"{folder} is incomplete: {', '.join(missing)} is missing")
        return [folder / name for name in names]
    if pickles := sorted(p.name for p in [*folder.glob("*.bin"), *folder.glob("*.pt")]):
        raise CheckpointError(
            f"{folder} has its weights only as a pickle ({pickles[0]}), and loading one can run "
            "code: convert it where you trust it, with "
            "AutoModelForSequenceClassification.from_pretrained(DIR)"
            ".save_pretrained(NEW_DIR, safe_serialization=True)"
        )
    raise CheckpointError(
        f"{folder} has no {SINGLE} (pickles are never downloaded: the hub often holds a converted "
        "copy on a branch such as --revision refs/pr/1)"
    )

"""Read the weights of a checkpoint, one tensor at a time."""

from contextlib import ExitStack
from pathlib import Path
from typing import Self

import torch

from harmless_export.checkpoint import Gpt2Config
from harmless_export.tensor_files import StoredTensor
from harmless_export.training import BASE, refuse_wrapper
from harmless_export.weight_files import find_weights, open_tensors
from harmless_runtime.errors import CheckpointError

_HEAD = "score.weight"
_NO_HEAD = (
    "it is a language model without a reward head",
    "name a checkpoint that was trained to score texts",
)
_INCOMPLETE = (
    "it is not a complete GPT2ForSequenceClassification",
    "save the whole model by its names in transformers, with save_pretrained",
)
_READ = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


class Weights:
    """The tensors of a checkpoint, by their names in GPT2ForSequenceClassification.

    Tensors that the model does not need are passed over, such as the causal masks that old versions
    of transformers saved.

    Args:
        folder: the checkpoint.
        allow_pickle: read a pickle if there is no safetensors file.

    Attributes:
        are_pickles: whether the weights come from pickles.
        has_full_names: whether the files use the same names. Old checkpoints leave out the prefix
            `transformer.`, and transformers itself refuses them.

    Raises:
        CheckpointError: as `weight_files.find_weights` and `open_tensors`.
    """

    def __init__(self, folder: Path, *, allow_pickle: bool = False) -> None:
        self._folder = folder
        self._files = ExitStack()
        self._found = find_weights(folder, allow_pickle=allow_pickle)
        self.are_pickles = bool(self._found.pickles)
        try:
            stored = open_tensors(self._found, self._files)
        except BaseException:
            self._files.close()
            raise
        self._names = list(stored)
        self.has_full_names = any(name.startswith(BASE) for name in stored)
        self._tensors: dict[str, StoredTensor] = stored
        if not self.has_full_names:
            self._tensors = {_full_name(name): tensor for name, tensor in stored.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tensors = {}
        self._files.close()

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor without reading it."""
        return self._tensors[name].shape

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """Raise CheckpointError unless a float tensor of this shape is there. No tensor is read."""
        if name not in self._tensors:
            refuse_wrapper(self._folder, self._found.paths, self._names)
            why, hint = self._no_head(shape) if name == _HEAD else _INCOMPLETE
            raise CheckpointError(f"{self._folder} has no tensor {name}: {why}", hint)
        tensor = self._tensors[name]
        if tensor.dtype not in _READ:
            read = ", ".join(map(str, _READ))
            raise CheckpointError(
                f"{self._folder}: {name} is stored as {tensor.dtype}, but only dense tensors of "
                f"{read} are read",
                "load the model where it was made, and save it again in one of these types",
            )
        if name == _HEAD and tensor.shape[1:] == shape[1:] and tensor.shape != shape:
            raise CheckpointError(
                f"{self._folder}: the model has {tensor.shape[0]} labels, but a reward model has 1"
            )
        if tensor.shape != shape:
            raise CheckpointError(
                f"{self._folder}: {name} has shape {tensor.shape}, but config.json asks for {shape}"
            )

    def _no_head(self, shape: tuple[int, ...]) -> tuple[str, str]:
        """Return why there is no reward head, and a hint: it may have another name."""
        named = (name for name, tensor in self._tensors.items() if tensor.shape == shape)
        if (other := next(named, None)) is None:
            return _NO_HEAD
        other = other.removeprefix(BASE)
        return (
            f"{other} has the shape of a reward head",
            f"if {other} is the reward head, which OpenRLHF names by value_head_prefix in "
            f"config.json, rename the tensor to {_HEAD}",
        )

    def read(self, name: str) -> torch.Tensor:
        """Return a tensor in float32, whatever type it is stored in.

        Raises:
            CheckpointError: it holds values that are not finite.
        """
        tensor = self._tensors[name].read().float()
        if not torch.isfinite(tensor).all():
            raise CheckpointError(
                f"{self._folder}: {name} holds values that are not finite",
                "name an earlier state of the training, or copy the file again if it is damaged",
            )
        return tensor


def _full_name(name: str) -> str:
    return name if name == _HEAD else BASE + name


def weight_shapes(config: Gpt2Config) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all weights of GPT2ForSequenceClassification, by their names."""
    width, inner = config.n_embd, config.n_inner
    shapes: dict[str, tuple[int, ...]] = {
        "transformer.wte.weight": (config.vocab_size, width),
        "transformer.wpe.weight": (config.n_positions, width),
    }
    for layer in range(config.n_layer):
        name = f"transformer.h.{layer}"
        shapes |= _norm(f"{name}.ln_1", width)
        shapes |= _product(f"{name}.attn.c_attn", width, 3 * width)
        shapes |= _product(f"{name}.attn.c_proj", width, width)
        shapes |= _norm(f"{name}.ln_2", width)
        shapes |= _product(f"{name}.mlp.c_fc", width, inner)
        shapes |= _product(f"{name}.mlp.c_proj", inner, width)
    return shapes | _norm("transformer.ln_f", width) | {_HEAD: (1, width)}


def check_weights(config: Gpt2Config, weights: Weights) -> None:
    """Raise CheckpointError unless every weight of the model is there, in its shape."""
    for name, shape in weight_shapes(config).items():
        weights.check(name, shape)


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _product(name: str, k: int, n: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (k, n), f"{name}.bias": (n,)}

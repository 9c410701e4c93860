"""Read the weights of a checkpoint, one tensor at a time."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open

from harmless_export.checkpoint import Gpt2Config, read_json
from harmless_runtime.errors import CheckpointError

WEIGHTS_FILE = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
STORED_AS = ("F32", "F16", "BF16")


class Weights:
    """The tensors of one or several safetensors files, memory-mapped and read one by one.

    Raises:
        CheckpointError: there is no safetensors file, or one is damaged. A pickle is refused,
            because loading one can run code.
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

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor without reading it."""
        return tuple(self._file_of[name].get_slice(name).get_shape())

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """Raise CheckpointError unless a float tensor of this shape is there. No tensor is read."""
        if name not in self._file_of:
            why = (
                "it is a language model without a reward head"
                if name == "score.weight"
                else "it is not a complete GPT2ForSequenceClassification"
            )
            raise CheckpointError(f"{self._folder} has no tensor {name}: {why}")
        if self.shape(name) != shape:
            raise CheckpointError(
                f"{self._folder}: {name} has shape {self.shape(name)}, but config.json asks for "
                f"{shape}"
            )
        dtype = self._file_of[name].get_slice(name).get_dtype()
        if dtype not in STORED_AS:
            raise CheckpointError(
                f"{self._folder}: {name} is stored as {dtype}, but only {', '.join(STORED_AS)} are "
                "read"
            )

    def read(self, name: str) -> torch.Tensor:
        """Return a tensor in float32, whatever type it is stored in.

        Raises:
            CheckpointError: it holds values that are not finite.
        """
        tensor: torch.Tensor = self._file_of[name].get_tensor(name).float()
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{self._folder}: {name} holds values that are not finite")
        return tensor


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS_FILE).exists():
        return [folder / WEIGHTS_FILE]
    if (folder / WEIGHTS_INDEX).exists():
        mapping = read_json(folder / WEIGHTS_INDEX).get("weight_map")
        listed = list(mapping.values()) if isinstance(mapping, dict) else []
        if not listed or any(not isinstance(n, str) or Path(n).name != n for n in listed):
            raise CheckpointError(f"{folder / WEIGHTS_INDEX} does not name files of its own folder")
        names = sorted(set(listed))
        if missing := [n for n in names if not (folder / n).exists()]:
            raise CheckpointError(f"{folder} is incomplete: {', '.join(missing)} is missing")
        return [folder / name for name in names]
    if pickles := sorted(p.name for p in [*folder.glob("*.bin"), *folder.glob("*.pt")]):
        raise CheckpointError(
            f"{folder} has its weights only as a pickle ({pickles[0]}), and loading a pickle can "
            "run code",
            "if you trust it, convert it: "
            "AutoModelForSequenceClassification.from_pretrained(DIR)"
            ".save_pretrained(NEW_DIR, safe_serialization=True), and copy the tokenizer's files",
        )
    raise CheckpointError(
        f"{folder} has no {WEIGHTS_FILE}, and pickles are never downloaded",
        "on the hub, a branch often has a converted copy: set `revision` to refs/pr/1, for example",
    )


def check_weights(config: Gpt2Config, weights: Weights) -> None:
    """Raise CheckpointError unless every weight of the model is there, in its shape."""
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
    shapes |= _norm("transformer.ln_f", width) | {"score.weight": (1, width)}
    for name, shape in shapes.items():
        weights.check(name, shape)


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _product(name: str, k: int, n: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (k, n), f"{name}.bias": (n,)}

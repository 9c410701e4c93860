"""Find the files of a checkpoint that hold its weights, and open them without reading them."""

import pickle
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from harmless_export.checkpoint import read_json
from harmless_runtime.errors import CheckpointError, one_line

SAFETENSORS = "model.safetensors"
PICKLE = "pytorch_model.bin"
_INDEX = ".index.json"


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file. Only its shape and type are known, until `read` reads it."""

    shape: tuple[int, ...]
    dtype: torch.dtype | str
    read: Callable[[], torch.Tensor]


@dataclass(frozen=True)
class WeightFiles:
    """The files that hold a checkpoint's weights, and whether they are pickles."""

    folder: Path
    paths: list[Path]
    are_pickles: bool


def find_weights(folder: Path, *, allow_pickle: bool) -> WeightFiles:
    """Find the weights of a checkpoint: safetensors, or else pickles if they are allowed.

    Raises:
        CheckpointError: there are no weights, some are missing, or they are pickles and
            `allow_pickle` is False.
    """
    if paths := _listed(folder, SAFETENSORS):
        return WeightFiles(folder, paths, are_pickles=False)
    paths = _listed(folder, PICKLE)
    if not paths:
        raise _no_weights(folder)
    if not allow_pickle:
        raise CheckpointError(
            f"{folder} has its weights only as a pickle ({paths[0].name}), and a pickle can run "
            "code when it is loaded",
            "if you trust where it comes from, `allow_pickle` reads it",
        )
    return WeightFiles(folder, paths, are_pickles=True)


def open_tensors(weights: WeightFiles, files: ExitStack) -> dict[str, StoredTensor]:
    """Return all tensors by their names in the files, which stay open until `files` is closed.

    Raises:
        CheckpointError: a file is damaged, or a pickle holds more than tensors.
    """
    if not weights.are_pickles:
        return _safetensors(weights, files)
    return {name: stored for path in weights.paths for name, stored in _pickle(path).items()}


def _no_weights(folder: Path) -> CheckpointError:
    pickles = sorted(p.name for p in [*folder.glob("*.bin"), *folder.glob("*.pt")])
    if pickles:
        return CheckpointError(
            f"{folder} has neither {SAFETENSORS} nor {PICKLE}, only {pickles[0]}",
            f"if it holds the weights by their names in transformers, call it {PICKLE}",
        )
    return CheckpointError(
        f"{folder} has no {SAFETENSORS}",
        f"if the hub has only a pickle ({PICKLE}), `allow_pickle` downloads and reads it; or a "
        "branch has a converted copy: set `revision` to refs/pr/1, for example",
    )


def _listed(folder: Path, name: str) -> list[Path]:
    """Return the file of this name, or the parts that its index lists, or nothing."""
    if (folder / name).exists():
        return [folder / name]
    index = folder / (name + _INDEX)
    if not index.exists():
        return []
    mapping = read_json(index).get("weight_map")
    listed = list(mapping.values()) if isinstance(mapping, dict) else []
    if not listed or any(not isinstance(n, str) or Path(n).name != n for n in listed):
        raise CheckpointError(f"{index} does not name files of its own folder")
    names = sorted(set(listed))
    if missing := [n for n in names if not (folder / n).exists()]:
        raise CheckpointError(f"{folder} is incomplete: {', '.join(missing)} is missing")
    return [folder / name for name in names]


def _safetensors(weights: WeightFiles, files: ExitStack) -> dict[str, StoredTensor]:
    tensors = {}
    try:
        for path in weights.paths:
            handle = files.enter_context(safe_open(path, framework="pt"))
            for name in handle.keys():  # noqa: SIM118 - it is no mapping
                tensors[name] = _of_handle(handle, name)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"cannot read the weights in {weights.folder}: {error}") from error
    return tensors


_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
}  # fmt: skip


def _of_handle(handle: Any, name: str) -> StoredTensor:
    part = handle.get_slice(name)
    dtype = part.get_dtype()
    return StoredTensor(
        tuple(part.get_shape()), _DTYPES.get(dtype, dtype), partial(handle.get_tensor, name)
    )


def _pickle(path: Path) -> dict[str, StoredTensor]:
    """Load a pickle of tensors. Those in the format since PyTorch 1.6 are mapped into memory."""
    try:
        content = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors, and that is not loaded: {one_line(error)}",
            "load it where it was made, and save the model with safe_serialization=True",
        ) from error
    except Exception as error:  # a damaged file raises RuntimeError, EOFError, KeyError and more
        raise CheckpointError(f"cannot read the weights in {path}: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no mapping of names to tensors")
    return {
        name: StoredTensor(tuple(tensor.shape), tensor.dtype, partial(_itself, tensor))
        for name, tensor in content.items()
        if isinstance(name, str) and isinstance(tensor, torch.Tensor)
    }


def _itself(tensor: torch.Tensor) -> torch.Tensor:
    return tensor

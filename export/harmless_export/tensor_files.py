"""Open a file of tensors without reading them, and tell in plain words why that fails."""

import pickle
import re
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from harmless_export.training import refuse_training_state
from harmless_runtime.errors import CheckpointError, one_line


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file. Only its shape and type are known, until `read` reads it.

    The type is in words if it is none of PyTorch's, or if the tensor is not dense.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype | str
    read: Callable[[], torch.Tensor]


def open_safetensors(path: Path, files: ExitStack) -> dict[str, StoredTensor]:
    """Return the tensors of a safetensors file, which stays open until `files` is closed.

    Raises:
        CheckpointError: the file is damaged.
    """
    try:
        handle = files.enter_context(safe_open(path, framework="pt"))
        return {name: _of_handle(handle, name) for name in handle.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error


def open_pickle(path: Path) -> dict[str, StoredTensor]:
    """Load a pickle of tensors. Those in the format since PyTorch 1.6 are mapped into memory.

    Raises:
        CheckpointError: the file is damaged, or holds anything but tensors by their names.
    """
    content = _load(path)
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds no mapping of names to tensors, but a {type(content).__name__}",
            "save the model's state_dict there",
        )
    refuse_training_state(path, content)
    for key in content:
        if not isinstance(key, str):
            raise CheckpointError(
                f"{path} has the key {one_line(repr(key))}, which is no name of a tensor",
                "save the model's state_dict there, and nothing else",
            )
    return {
        name: _in_memory(value)
        for name, value in content.items()
        if isinstance(value, torch.Tensor)
    }


_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
}  # fmt: skip


def _of_handle(handle: Any, name: str) -> StoredTensor:
    part = handle.get_slice(name)
    dtype = part.get_dtype()
    return StoredTensor(
        tuple(part.get_shape()), _DTYPES.get(dtype, dtype), partial(handle.get_tensor, name)
    )


def _in_memory(tensor: torch.Tensor) -> StoredTensor:
    # A nested tensor has no shape that could be asked for.
    shape = () if tensor.is_nested else tuple(tensor.shape)
    return StoredTensor(shape, _kind(tensor), tensor.detach)


def _kind(tensor: torch.Tensor) -> torch.dtype | str:
    """Return the type of a dense tensor, or in words what the tensor is instead."""
    if tensor.is_nested:
        return "a nested tensor"
    if tensor.layout is not torch.strided:
        return f"a sparse tensor ({tensor.layout})"
    if tensor.is_meta:
        return "a tensor without values (on the device meta)"
    return tensor.dtype


# How the refusals of PyTorch name what a pickle holds beside tensors.
_NAMED = re.compile(r"GLOBAL (\S+)|<(?:class|function|built-in \w+) '?([\w.]+)")


def _load(path: Path) -> Any:
    try:
        return torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except pickle.UnpicklingError as error:
        # PyTorch puts its own reason into half a page, which advises to load the file anyway.
        reason = error.__context__ or error
        named = _NAMED.search(str(reason))
        if named is None:
            raise _unreadable(path, reason) from error
        raise CheckpointError(
            f"{path} holds more than tensors ({named[1] or named[2]}), and that is not loaded",
            "load it where it was made, and save the model with safe_serialization=True",
        ) from error
    except Exception as error:  # a damaged file raises RuntimeError, EOFError, KeyError and more
        raise _unreadable(path, error) from error


_CUT_SHORT = "it is cut short"
# What the libraries say, and what that means.
_REASONS = {
    "header too small": _CUT_SHORT,
    "invalid header length": _CUT_SHORT,
    "central directory": _CUT_SHORT,
    "unexpected EOF": _CUT_SHORT,
    "not fully covered": "it is longer or shorter than its header says",
    "header too large": "it is no safetensors file",
    "TorchScript": "it is a TorchScript program",
    ".tar": "it is in a format that PyTorch has given up (.tar)",
}
_POINTER = b"version https://git-lfs"


def _unreadable(path: Path, error: BaseException) -> CheckpointError:
    """Return the error for a file that is damaged, or of another kind than its name says."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(len(_POINTER))
    except OSError as own:
        return CheckpointError(f"cannot read the weights in {path}: {own.strerror}")
    if head == _POINTER:
        return CheckpointError(
            f"cannot read the weights in {path}: it is a pointer of Git LFS to the file",
            "git lfs pull, in that folder",
        )
    return CheckpointError(
        f"cannot read the weights in {path}, which has {size:,} bytes: {_reason(size, error)}",
        "copy or download the file again, or save the model again with safe_serialization=True",
    )


def _reason(size: int, error: BaseException) -> str:
    if not size:
        return "it is empty"
    if isinstance(error, EOFError):
        return _CUT_SHORT
    said = str(error)
    for part, reason in _REASONS.items():
        if part in said:
            return reason
    if isinstance(error, SafetensorError | OSError):
        return one_line(said)
    return "it is damaged, or torch.save did not write it"

"""Recognise what training loops save around a model's tensors, and tell how to take it off."""

import json
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from harmless_export.checkpoint import SAFETENSORS
from harmless_runtime.errors import CheckpointError

BASE = "transformer."
_FIRST = "transformer.wte.weight"


def refuse_training_state(path: Path, content: Mapping[Any, Any]) -> None:
    """Refuse a training checkpoint, whose tensors are below a key such as `state_dict`.

    Args:
        path: the pickle.
        content: what it holds.

    Raises:
        CheckpointError: more tensors are below one of its keys than beside it.
    """
    counts = {
        key: _tensors(value)
        for key, value in content.items()
        if isinstance(key, str) and isinstance(value, dict)
    }
    key = max(counts, key=counts.__getitem__, default=None)
    if key is None or counts[key] <= _tensors(content):
        return
    names = [name for name in content[key] if isinstance(name, str)]
    raise CheckpointError(
        f"{path} is a training checkpoint: it has its tensors below the key {key!r}",
        f"save them as {SAFETENSORS}: {_command(path, key, wrapper(names))}",
    )


def refuse_wrapper(folder: Path, paths: Collection[Path], names: Collection[str]) -> None:
    """Refuse tensors whose names tell that a wrapper of the model was saved.

    Args:
        folder: the checkpoint.
        paths: the files of its weights.
        names: the names of all tensors.

    Raises:
        CheckpointError: the names are those of transformers behind a prefix such as `module.`.
    """
    prefix = wrapper(names)
    if not prefix:
        return
    hint = f"save the model inside: model.{prefix}save_pretrained(folder)"
    (path, *others) = paths
    if not others and path.name != SAFETENSORS:
        hint += f"; or rename the tensors: {_command(path, None, prefix)}"
    raise CheckpointError(
        f"{folder}: the names of all tensors begin with {prefix!r}, because a wrapper of the model "
        "was saved",
        hint,
    )


def wrapper(names: Collection[str]) -> str:
    """Return what stands before transformers' names in all names, such as `module.`, or ""."""
    for name in names:
        for known in (_FIRST, _FIRST.removeprefix(BASE)):
            prefix = name.removesuffix(known)
            if prefix.endswith(".") and prefix not in (name, BASE):
                return prefix if all(each.startswith(prefix) for each in names) else ""
    return ""


def _tensors(content: Mapping[Any, Any]) -> int:
    return sum(isinstance(value, torch.Tensor) for value in content.values())


def _command(path: Path, key: str | None, prefix: str) -> str:
    """Return the command that saves a pickle's tensors by transformers' names."""
    # In double quotes, because the shell's are single ones.
    loaded = f'torch.load({json.dumps(str(path))}, map_location="cpu")'
    if key is not None:
        loaded += f"[{json.dumps(key)}]"
    name = f"n.removeprefix({json.dumps(prefix)})" if prefix else "n"
    # Tensors that share memory, or that have gaps in it, cannot be saved as safetensors.
    program = (
        "import torch; from safetensors.torch import save_file; "
        f"save_file({{{name}: t.detach().contiguous().clone() for n, t in {loaded}.items()}}, "
        f'{json.dumps(str(path.with_name(SAFETENSORS)))}, {{"format": "pt"}})'
    )
    return f"python -c {shlex.quote(program)}"

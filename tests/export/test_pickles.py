"""Pickles of other things than a model's dense tensors by their names."""

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from checkpoints import copy_of, refused
from harmless_export import export_checkpoint

WEIGHT = "transformer.h.1.mlp.c_fc.weight"
Tensors = dict[str, torch.Tensor]


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint that has no weights yet."""
    folder = copy_of(checkpoint, tmp_path)
    (folder / "model.safetensors").unlink()
    return folder


@pytest.fixture
def tensors(checkpoint: Path) -> Tensors:
    tensors: Tensors = load_file(checkpoint / "model.safetensors")
    return tensors


def test_parameters_are_read(folder: Path, tensors: Tensors, tmp_path: Path) -> None:
    parameters = {name: torch.nn.Parameter(tensor) for name, tensor in tensors.items()}
    torch.save(parameters, folder / "pytorch_model.bin")
    artifact = export_checkpoint(str(folder), tmp_path / "artifact", allow_pickle=True)
    assert artifact.manifest.parity[0].relative < 1e-4


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (torch.Tensor.to_sparse, r"a sparse tensor \(torch.sparse_coo\)"),
        (torch.Tensor.to_sparse_csr, r"a sparse tensor \(torch.sparse_csr\)"),
        (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "torch.qint8"),
        (lambda t: t.to("meta"), r"a tensor without values \(on the device meta\)"),
        (lambda t: torch.nested.nested_tensor([t[0], t[1]]), "a nested tensor"),
        (lambda t: t.to(torch.int32), "torch.int32"),
    ],
    ids=["sparse", "CSR", "quantised", "meta", "nested", "integers"],
)
@pytest.mark.filterwarnings("ignore")  # PyTorch's, about kinds of tensors that it may change
def test_tensors_that_are_not_dense_floats(
    change: Callable[[torch.Tensor], torch.Tensor],
    kind: str,
    folder: Path,
    tensors: Tensors,
    tmp_path: Path,
) -> None:
    changed = tensors | {WEIGHT: change(tensors[WEIGHT])}
    torch.save(changed, folder / "pytorch_model.bin")
    hint = refused(folder, tmp_path, f"{WEIGHT} is stored as {kind}, but only", allow_pickle=True)
    assert "save it again" in hint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({3: torch.ones(2)}, "has the key 3, which is no name of a tensor"),
        ([1, 2], "no mapping of names to tensors, but a list"),
        (torch.ones(2), "no mapping of names to tensors, but a Tensor"),
        ({"a": torch.ones(2).numpy()}, r"more than tensors \(numpy\..*_reconstruct\), and"),
        (torch.nn.Linear(2, 2), r"more than tensors \(torch.nn.modules.linear.Linear\), and"),
        ({}, "no tensor transformer.wte.weight"),
    ],
    ids=["number", "list", "tensor", "array", "module", "empty"],
)
def test_contents_that_are_no_tensors_by_their_names(
    content: Any, message: str, folder: Path, tmp_path: Path
) -> None:
    torch.save(content, folder / "pytorch_model.bin")
    hint = refused(folder, tmp_path, message, allow_pickle=True)
    assert "save" in hint
    assert "weights_only" not in hint


@pytest.mark.parametrize(
    ("key", "prefix"),
    [
        ("state_dict", ""),
        ("model", ""),
        ("state_dict", "model."),
        (None, "module."),
        (None, "_orig_mod.module."),
    ],
)
def test_the_hint_saves_what_a_training_loop_saved(
    key: str | None, prefix: str, folder: Path, tensors: Tensors, tmp_path: Path
) -> None:
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"]  # they share their memory
    inner = {prefix + name: torch.nn.Parameter(tensor) for name, tensor in tensors.items()}
    content = inner if key is None else {"epoch": torch.tensor(3), key: inner}
    torch.save(content, folder / "pytorch_model.bin")
    message = f"all tensors begin with '{prefix}'" if key is None else f"below the key '{key}'"
    hint = refused(folder, tmp_path, message, allow_pickle=True)
    _, command = hint.split(": python ")
    subprocess.run([sys.executable, *shlex.split(command)], check=True)
    export_checkpoint(str(folder), tmp_path / "artifact", verify=False)


def test_wrapped_names_in_safetensors(folder: Path, tensors: Tensors, tmp_path: Path) -> None:
    wrapped = {f"_orig_mod.{name}": tensor for name, tensor in tensors.items()}
    save_file(wrapped, folder / "model.safetensors")
    hint = refused(folder, tmp_path, "the names of all tensors begin with '_orig_mod.'")
    assert hint == "save the model inside: model._orig_mod.save_pretrained(folder)"

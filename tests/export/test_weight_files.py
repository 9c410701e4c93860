"""Files of weights that are damaged, and indexes that name the wrong ones."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from checkpoints import copy_of, refused
from harmless_export import export_checkpoint

PART = "model-00001-of-00001.safetensors"


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint whose weights have the name of a part. It has no index yet."""
    folder = copy_of(checkpoint, tmp_path)
    (folder / "model.safetensors").rename(folder / PART)
    return folder


def write_index(folder: Path, kind: str = "model.safetensors", **changes: Any) -> None:
    """Write an index, whose keys can be replaced. A key that is to be None is left out."""
    names = load_file(folder / PART)
    content = {"metadata": {}, "weight_map": dict.fromkeys(names, PART)} | changes
    content = {key: value for key, value in content.items() if value is not None}
    (folder / f"{kind}.index.json").write_text(json.dumps(content))


@pytest.mark.parametrize("kind", ["model.safetensors", "pytorch_model.bin"])
def test_an_index_needs_metadata_as_in_transformers(
    kind: str, folder: Path, tmp_path: Path
) -> None:
    write_index(folder, kind, metadata=None)
    hint = refused(folder, tmp_path, "without which transformers does not load it")
    assert hint == 'set "metadata" to {} in it'
    write_index(folder, kind)
    export_checkpoint(str(folder), tmp_path / "artifact")


def test_the_parts_of_an_index_are_pickles_by_their_names(folder: Path, tmp_path: Path) -> None:
    tensors = load_file(folder / PART)
    torch.save(tensors, folder / "part.bin")
    write_index(folder, weight_map=dict.fromkeys(tensors, "part.bin"))
    refused(folder, tmp_path, r"only as a pickle \(part.bin\)")
    export_checkpoint(str(folder), tmp_path / "artifact", allow_pickle=True)


def test_tensors_that_an_index_leaves_out(folder: Path, tmp_path: Path) -> None:
    """transformers draws them at random, and does not read them."""
    names = load_file(folder / PART).keys() - {"score.weight"}
    write_index(folder, weight_map=dict.fromkeys(names, PART))
    refused(folder, tmp_path, "no tensor score.weight")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../x.bin", r"does not name files of its own folder: '../x.bin'"),
        ("..", "does not name files of its own folder: '..'"),
        ("", "does not name files of its own folder: ''"),
        ("sub", "incomplete: sub is missing"),
        (7, "incomplete: 7 is missing"),
        ("x" * 300, "incomplete: x+ is missing"),
        ("\0", "incomplete: .* is missing"),
    ],
)
def test_names_in_an_index(name: Any, message: str, folder: Path, tmp_path: Path) -> None:
    (folder / "sub").mkdir()
    write_index(folder, weight_map={"score.weight": name})
    assert refused(folder, tmp_path, message)


def test_an_empty_index(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors.index.json").touch()
    assert refused(folder, tmp_path, "cannot read .*index.json: it is empty")
    write_index(folder, weight_map={})
    assert refused(folder, tmp_path, "has no weight_map")


@pytest.mark.parametrize("kept", [0, 3, 200, -200])
@pytest.mark.parametrize("form", ["safetensors", "mapped pickle", "old pickle"])
def test_weights_that_are_cut_short(form: str, kept: int, checkpoint: Path, tmp_path: Path) -> None:
    folder = copy_of(checkpoint, tmp_path)
    path = folder / "model.safetensors"
    if form != "safetensors":
        tensors = load_file(path)
        path.unlink()
        path = folder / "pytorch_model.bin"
        torch.save(tensors, path, _use_new_zipfile_serialization=form == "mapped pickle")
    path.write_bytes(path.read_bytes()[:kept])
    reasons = "it is (empty|cut short|damaged|longer or shorter)"
    message = f"{path.name}, which has [0-9,]+ bytes: {reasons}"
    assert "again" in refused(folder, tmp_path, message, allow_pickle=True)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_files_of_another_kind(name: str, checkpoint: Path, tmp_path: Path) -> None:
    folder = copy_of(checkpoint, tmp_path)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    path = folder / name
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    hint = refused(folder, tmp_path, "is a pointer of Git LFS", allow_pickle=True)
    assert "git lfs pull" in hint
    path.write_text("<!doctype html>")
    assert refused(folder, tmp_path, "which has 15 bytes: it is", allow_pickle=True)
    if name == "pytorch_model.bin":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    assert refused(folder, tmp_path, "bytes: it is", allow_pickle=True)
    path.unlink()
    path.symlink_to("nowhere")
    assert refused(folder, tmp_path, "a link to nowhere, which does not exist", allow_pickle=True)

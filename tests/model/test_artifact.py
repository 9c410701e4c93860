"""Artifacts that are damaged are refused when they are opened."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harmless_runtime.errors import (
    ArtifactError,
)
from harmless_runtime.model.artifact import Artifact, open_artifact

FILES = ("model.onnx", "model.onnx.data", "tokenizer.json")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "scorer.json").unlink(), "has no scorer.json"),
        (lambda f: (f / "scorer.json").write_text("{}"), "not a valid manifest"),
        (lambda f: (f / "scorer.json").write_text("[" * 10**5), "not a valid manifest"),
        (lambda f: (f / "model.onnx.data").unlink(), "incomplete: .*model.onnx.data is missing"),
        (lambda f: (f / "model.onnx.data").write_bytes(b""), "SHA-256 differs"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer.json .*SHA-256 differs"),
        (lambda f: edit(f, {"format_version": 99}), "format version 99"),
        (lambda f: edit(f, {"precision": "int3"}), "not a valid manifest"),
        (lambda f: edit(f, {"pad_token_id": 10**6}), "pad_token_id 1000000"),
        (lambda f: edit(f, {"files": {}}), "does not list model.onnx"),
        (lambda f: edit(f, {"files": dict.fromkeys(FILES, "") | {"../x": ""}}), "not a plain file"),
    ],
)  # fmt: skip
def test_damaged_artifacts(damage: Any, message: str, artifact: Artifact, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(artifact.folder, folder)
    damage(folder)
    with pytest.raises(ArtifactError, match=message):
        open_artifact(folder)


def edit(folder: Path, changes: dict[str, Any]) -> None:
    path = folder / "scorer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_an_artifact_in_the_cache_of_the_hub_can_be_copied(
    artifact: Artifact, tmp_path: Path
) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots/a b"
    shutil.copytree(artifact.folder, blobs)
    snapshot.mkdir(parents=True)
    for file in blobs.iterdir():
        (snapshot / file.name).symlink_to(Path("../../blobs") / file.name)
    with pytest.raises(ArtifactError, match="is a symbolic link") as caught:
        open_artifact(snapshot)
    command = str(caught.value.hint).partition(": ")[2].replace("COPY", str(tmp_path / "copy"))
    subprocess.run(command, shell=True, check=True)
    assert open_artifact(tmp_path / "copy").manifest == artifact.manifest

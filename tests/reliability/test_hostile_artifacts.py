"""Artifacts that lie are refused with one sentence."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from harmless_runtime import bundled
from harmless_runtime.config import make_config
from harmless_runtime.errors import ArtifactError, HarmlessError
from harmless_runtime.model import file_hash
from harmless_runtime.model.artifact import MANIFEST, WEIGHTS, open_artifact
from harmless_runtime.model.file_hash import HashCheck, sha256_of
from harmless_runtime.model.load import load_engine
from processes import Harmless


def rewrite(name: str, content: bytes) -> Callable[[Path], None]:
    """Alter a file of an artifact, and make the manifest agree."""

    def alter(folder: Path) -> None:
        (folder / name).write_bytes(content)
        manifest = json.loads((folder / MANIFEST).read_bytes())
        manifest["files"][name] = sha256_of(folder / name)
        (folder / MANIFEST).write_text(json.dumps(manifest))

    return alter


@pytest.mark.parametrize(
    "alter",
    [
        rewrite("tokenizer.json", b""),
        rewrite("tokenizer.json", b"garbage"),
        rewrite("tokenizer.json", b"{}"),
        rewrite("tokenizer.json", b'{"model": {"type": "BPE", "vocab": {}, "merges": [["a"]]}}'),
        rewrite("tokenizer.json", b"[" * 10**6),
        rewrite("model.onnx", b""),
        rewrite("model.onnx", b"garbage"),
        rewrite("model.onnx", os.urandom(10**5)),
        rewrite("model.onnx", bundled.MODEL.joinpath("model.onnx").read_bytes()[:-1000]),
        rewrite("model.onnx.data", b"too short"),
    ],
    ids=lambda _: "",
)
def test_artifacts_that_lie(alter: Callable[[Path], None], tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    shutil.copytree(bundled.MODEL, folder)
    alter(folder)
    with pytest.raises(HarmlessError):
        load_engine(make_config({"model": str(folder), "provider": "cpu"}))


def test_weights_come_from_the_artifacts_own_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside.data"
    shutil.copyfile(bundled.MODEL / "model.onnx.data", outside)
    places = ("../outside.data", str(outside), "sub/../../outside.data", "link.data")
    for location in ("model.onnx.data", *places):
        folder = tmp_path / location.replace("/", "_")
        shutil.copytree(bundled.MODEL, folder)
        (folder / "link.data").symlink_to(outside)
        model = onnx.load(folder / "model.onnx", load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        rewrite("model.onnx", model.SerializeToString())(folder)
        config = make_config({"model": str(folder), "provider": "cpu"})
        if location == "model.onnx.data":
            load_engine(config)  # so the folders below are refused for the location alone
        else:
            with pytest.raises(HarmlessError, match=r"external|outside|directory|symbolic|link"):
                load_engine(config)


def test_hard_links_and_symbolic_links_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    shutil.copytree(bundled.MODEL, folder)
    weights = folder / "model.onnx.data"
    os.link(weights, tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match="2 hard links"):
        open_artifact(folder)
    weights.unlink()
    weights.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match="is a symbolic link"):
        open_artifact(folder)


def test_checks_can_be_skipped(tmp_path: Path, harmless: Harmless) -> None:
    folder = tmp_path / "artifact"
    shutil.copytree(bundled.MODEL, folder)
    (folder / "training.json").write_text("edited")
    (tmp_path / "rows").write_bytes(b'{"instruction": "a", "output": "b"}')
    arguments = ("score", tmp_path / "rows", "-o", tmp_path / "o", "--model", folder)
    done = harmless(*arguments)
    if done.returncode == 0:  # the manifest does not list it
        (folder / "config.json").write_text("{}")
        done = harmless(*arguments, "--overwrite")
    assert done.returncode == 1
    assert "is not the file that was exported: its SHA-256 differs" in done.stderr
    done = harmless(*arguments, "--no-check-files", "--overwrite")
    assert done.returncode == 0, done.stderr


def test_weights_that_were_edited_give_no_scores(tmp_path: Path, harmless: Harmless) -> None:
    """They are hashed while they are loaded, and load as well as the right ones."""
    folder = tmp_path / "artifact"
    shutil.copytree(bundled.MODEL, folder)
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    (tmp_path / "rows").write_bytes(b'{"instruction": "a", "output": "b"}\n' * 2000)
    done = harmless("score", tmp_path / "rows", "-o", tmp_path / "o", "--model", folder)
    assert done.returncode == 1
    assert f"{WEIGHTS} is not the file that was exported" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["artifact", "rows"]
    engine = load_engine(make_config({"model": str(folder), "provider": "cpu"}))
    for _ in range(2):
        with pytest.raises(ArtifactError, match="is not the file that was exported"):
            engine.score(engine.tokenizer.encode([("a", "b")]))


def test_a_hash_that_cannot_be_computed_is_no_right_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(file_hash, "check_hash", fails)
    check = HashCheck(tmp_path / "file", "0")
    with pytest.raises(ArtifactError, match="cannot compare"):
        check.wait()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_that_fork_made_knows_the_hash(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    check = HashCheck(tmp_path / "file", hashlib.sha256(b"x").hexdigest())
    wrong = HashCheck(tmp_path / "file", hashlib.sha256(b"y").hexdigest())
    for each in (check, wrong):
        each._is_done = False  # as if the thread were still at it
        each._error = None
    child = os.fork()
    if child == 0:
        try:
            check.wait()
            wrong.wait()
        except ArtifactError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7

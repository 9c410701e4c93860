"""Checkpoints by their names: the real client of the hub, and a stand-in for the hub itself."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from checkpoints import copy_of, make_model, save_checkpoint
from harmless_runtime import bundled
from harmless_runtime.choices import DEFAULT_MODEL
from processes import Harmless
from reading import read_rows
from servers import ModelHub, serving

pytestmark = pytest.mark.slow

Asked = list[tuple[str, str | None]]


@contextmanager
def hub(
    folder: Path, home: Path, cut: Callable[[str, str | None], int | None] = lambda *_: None
) -> Iterator[dict[str, str]]:
    """Serve a checkpoint as the default model, and give the environment that finds it."""
    with serving(partial(ModelHub, folder=folder, model=DEFAULT_MODEL, cut=cut)) as url:
        yield os.environ | {
            "HF_ENDPOINT": url,
            "HF_HOME": str(home / "hub"),
            "XDG_CACHE_HOME": str(home / "cache"),
        }


def test_the_default_model_is_downloaded_exported_and_scores(
    checkpoint: Path, demo_truth: list[float], tmp_path: Path, harmless: Harmless
) -> None:
    (pickled := copy_of(checkpoint, tmp_path) / "pytorch_model.bin").write_bytes(b"not wanted")
    asked: Asked = []

    def note(*download: Any) -> None:
        asked.append(download)

    with hub(pickled.parent, tmp_path, note) as environment:
        done = harmless(
            "export", DEFAULT_MODEL, "-o", tmp_path / "artifact", "--no-verify", env=environment
        )
        assert done.returncode == 0, done.stderr
        done = harmless("score", bundled.ROWS, "-o", tmp_path / "o.jsonl", env=environment)
        assert done.returncode == 0, done.stderr
    scores = [line["score"] for line in read_rows(tmp_path / "o.jsonl")]
    np.testing.assert_allclose(scores, demo_truth, atol=2e-4)
    names = [name for name, _ in asked]
    assert names.count("model.safetensors") == 1, "the second command has the first one's download"
    assert "pytorch_model.bin" not in names


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (
            ["team/none"],
            "shows no model of this name: it does not exist, or it is private",
            "hf au",
        ),
        (["team/gated"], "team/gated is gated", "ask for access on the model's page"),
        ([DEFAULT_MODEL, "--revision", "v9"], "has no revision v9", "--revision is a branch"),
    ],
)
def test_names_that_the_hub_denies(
    arguments: list[str], message: str, hint: str, checkpoint: Path, tmp_path: Path,
    harmless: Harmless,
) -> None:  # fmt: skip
    with hub(checkpoint, tmp_path) as environment:
        done = harmless("export", *arguments, "-o", tmp_path / "artifact", env=environment)
    assert done.returncode == 1
    error, told = done.stderr.splitlines()[-2:]
    assert error.startswith("error: ")
    assert message in error
    assert told.startswith("hint: ")
    assert hint in told


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that is larger than the 10 MiB that the hub's client writes at a time."""
    model = make_model(n_embd=256, n_layer=4)
    return save_checkpoint(tmp_path_factory.mktemp("large"), model)


BROKEN_AT, WRITTEN = 12_000_000, 10 * 2**20


def test_a_download_that_breaks_is_continued(
    large: Path, tmp_path: Path, harmless: Harmless
) -> None:
    asked: Asked = []

    def cut(name: str, wanted: str | None) -> int | None:
        asked.append((name, wanted))
        return BROKEN_AT if name == "model.safetensors" and wanted is None else None

    with hub(large, tmp_path, cut) as environment:
        done = harmless(
            "export", DEFAULT_MODEL, "-o", tmp_path / "artifact", "--no-verify", env=environment
        )
    assert done.returncode == 0, done.stderr
    assert ("model.safetensors", f"bytes={WRITTEN}-") in asked


def test_the_same_command_continues_a_download_that_failed(
    large: Path, tmp_path: Path, harmless: Harmless
) -> None:
    command = ["export", DEFAULT_MODEL, "-o", str(tmp_path / "artifact"), "--no-verify"]
    asked: Asked = []

    def cut(name: str, wanted: str | None) -> int | None:
        if name != "model.safetensors":
            return None
        return 0 if wanted else BROKEN_AT

    with hub(large, tmp_path, cut) as environment:
        done = harmless(*command, env=environment)
    assert done.returncode == 1
    assert f"error: cannot download {DEFAULT_MODEL}: " in done.stderr
    assert "hint: the same command downloads what is missing" in done.stderr
    assert "Traceback" not in done.stderr
    with hub(large, tmp_path, lambda *download: asked.append(download)) as environment:
        done = harmless(*command, env=environment)
    assert done.returncode == 0, done.stderr
    # Since its release 1, the client begins a file again that another process has begun.
    is_continued = int(version("huggingface-hub").split(".")[0]) < 1
    assert asked == [("model.safetensors", f"bytes={WRITTEN}-" if is_continued else None)]


def test_a_full_disk(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "checkpoint", make_model(n_embd=128))
    (tmp_path / "hub").mkdir()
    mount = ["unshare", "-rm", "sh", "-c"]
    small = f"mount -t tmpfs -o size=1m none {tmp_path / 'hub'}"
    if subprocess.run([*mount, small], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    command = f"{sys.executable} -m harmless_runtime export {DEFAULT_MODEL} -o {tmp_path}/artifact"
    with hub(folder, tmp_path) as environment:
        done = subprocess.run(
            [*mount, f"{small} && {command}"],
            capture_output=True, text=True, check=False, env=environment,
        )  # fmt: skip
    assert done.returncode == 1
    assert f"error: cannot download {DEFAULT_MODEL}: the disk is full" in done.stderr
    assert "hint: make room, or set HF_HOME" in done.stderr


def test_a_pickle_is_downloaded_only_if_it_is_allowed(
    checkpoint: Path, tmp_path: Path, harmless: Harmless
) -> None:
    folder = copy_of(checkpoint, tmp_path)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    asked: Asked = []
    command = ["export", DEFAULT_MODEL, "-o", str(tmp_path / "artifact"), "--no-verify"]
    with hub(folder, tmp_path, lambda *download: asked.append(download)) as environment:
        done = harmless(*command, env=environment)
        assert done.returncode == 1
        assert "hint: if the hub has only a pickle (pytorch_model.bin), --allow-pickle" in (
            done.stderr
        )
        assert "pytorch_model.bin" not in [name for name, _ in asked]
        done = harmless(*command, "--allow-pickle", env=environment)
        assert done.returncode == 0, done.stderr
    assert "pytorch_model.bin" in [name for name, _ in asked]

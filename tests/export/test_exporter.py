"""Artifacts appear whole or not at all, and only if they pass the parity limit."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from checkpoints import OPTIMUM, make_model, save_checkpoint
from harmless_export import export_checkpoint, verify_artifact
from harmless_runtime.errors import (
    ConfigError,
    OutputError,
    ParityError,
)
from harmless_runtime.model.artifact import Artifact, open_artifact
from processes import Harmless


def test_max_length(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="max_length 2048 is out of range: the model has 1024"):
        export_checkpoint(str(checkpoint), tmp_path / "a", max_length=2048)
    artifact = export_checkpoint(str(checkpoint), tmp_path / "a", max_length=64, verify=False)
    assert artifact.manifest.max_length == 64


def test_a_target_is_replaced_only_with_force(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "artifact"
    out.mkdir()
    export_checkpoint(str(checkpoint), out, verify=False)
    with pytest.raises(OutputError, match="`force` replaces it"):
        export_checkpoint(str(checkpoint), out, verify=False)
    (out / "mine.txt").touch()
    with pytest.raises(OutputError, match=r"holds more than an artifact \(mine.txt\)"):
        export_checkpoint(str(checkpoint), out, verify=False, force=True)
    (out / "mine.txt").unlink()
    again = export_checkpoint(str(checkpoint), out, verify=False, precision="fp16", force=True)
    assert again.manifest.precision == "fp16"
    other = tmp_path / "photos"
    other.mkdir()
    (other / "cat.png").touch()
    with pytest.raises(OutputError, match="not an artifact"):
        export_checkpoint(str(checkpoint), other, verify=False, force=True)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_failed_parity_leaves_nothing(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ParityError, match=r"standard deviation(.|\n)*`parity_limit` allows more"):
        export_checkpoint(
            str(checkpoint), tmp_path / "out" / "a", precision="fp16", parity_limit=1e-9
        )
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.slow
def test_verify_finds_another_checkpoint(artifact: Artifact, tmp_path: Path) -> None:
    other = save_checkpoint(tmp_path / "other", make_model(seed=9))
    with pytest.raises(ParityError, match="this is not rounding"):
        verify_artifact(artifact, checkpoint=str(other))
    verified = verify_artifact(str(artifact.folder))
    assert verified.manifest.parity
    assert open_artifact(artifact.folder).manifest == verified.manifest


def test_an_artifact_names_its_checkpoint_from_anywhere(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkpoint.parent)
    artifact = export_checkpoint(checkpoint.name, tmp_path / "artifact", verify=False)
    assert artifact.manifest.source == str(checkpoint)


def test_killed_export_leaves_no_artifact(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "artifact"
    command = Path(sys.executable).with_name("harmless")
    deadline = time.monotonic() + 120
    killed_in_time = False
    while not killed_in_time:
        assert time.monotonic() < deadline
        process = subprocess.Popen(
            [command, "export", checkpoint, "-o", out, "--no-verify", "--force"]
        )
        while process.poll() is None and not list(tmp_path.glob(".artifact.partial-*/model.onnx*")):
            time.sleep(0.001)
        process.kill()
        process.wait()
        # The model is so small that the rest of the export may have been quicker than the kill.
        killed_in_time = not out.exists()
        if not killed_in_time:
            open_artifact(out)
            shutil.rmtree(out)
    assert list(tmp_path.glob(".artifact.partial-*"))


@pytest.mark.slow
def test_commands(checkpoint: Path, tmp_path: Path, harmless: Harmless) -> None:
    out = tmp_path / "artifact"
    done = harmless("export", checkpoint, "-o", out)
    assert done.returncode == 0, done.stderr
    assert "Spearman" in done.stderr
    assert all(runner in done.stderr for runner in OPTIMUM)
    assert done.stdout.strip() == str(out)
    done = harmless("export", checkpoint, "-o", out)
    assert done.returncode == 1
    assert done.stderr == (
        f"error: {out} already exists\nhint: --force replaces it; or choose another folder\n"
    )
    done = harmless("verify", out, "--provider", "cpu")
    assert done.returncode == 0, done.stderr
    assert "pairs that change order" in done.stderr
    done = harmless("verify", out, "--provider", "cuda")
    assert done.returncode == 1
    assert "CUDA" in done.stderr
    done = harmless("export", checkpoint, "-o", tmp_path / "bf16", "--precision", "bf16")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("is not verified, because bf16 needs a GPU") == 1
    done = harmless("verify", tmp_path / "bf16")
    assert done.returncode == 1, "nothing was verified"
    assert "bf16 needs a GPU" in done.stderr
    done = harmless("export", checkpoint, "-o", tmp_path / "x", "--precision", "fp64")
    assert done.returncode == 2

"""Choosing an execution provider, and what a session refuses."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import Run
from harmless_export import export_checkpoint
from harmless_runtime.artifact import Artifact
from harmless_runtime.errors import SessionError
from harmless_runtime.providers import _cpu_quota, select_provider
from harmless_runtime.session import Session


def test_sessions(artifact: Artifact, checkpoint: Path, tmp_path: Path) -> None:
    session = Session(artifact, "cpu", 0, 16)
    with pytest.raises(SessionError, match="17 tokens exceeds 16"):
        session.run(np.ones((1, 17), np.int64))
    with pytest.raises(SessionError, match="failed on"):
        session.run(np.full((1, 2), 10**6))
    bf16 = export_checkpoint(str(checkpoint), tmp_path / "b", precision="bf16", verify=False)
    with pytest.raises(SessionError, match="no bf16 kernels"):
        Session(bf16, "cpu", 0, 16)


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        ({}, math.inf),
    ],
)
def test_a_containers_cpu_limit(files: dict[str, str], quota: float, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert _cpu_quota(tmp_path) == quota


def test_a_process_bound_to_one_core_uses_one() -> None:
    program = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from harmless_runtime.providers import usable_cores; assert usable_cores() == 1"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_nothing_is_reported_to_anybody(tmp_path: Path, harmless: Run) -> None:
    done = harmless("demo", env={"PATH": "", "HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("*")) == [], "telemetry keeps a database at home, before it sends"


def test_auto_without_cuda_takes_the_cpu(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert select_provider("auto", 0) == "cpu"
    assert not caplog.text
    (tmp_path / "nvidia-smi").touch(mode=0o755)
    assert select_provider("auto", 0) == "cpu"
    assert "no CUDA execution provider" in caplog.text
    with pytest.raises(SessionError, match="--provider cuda"):
        select_provider("cuda", 0)

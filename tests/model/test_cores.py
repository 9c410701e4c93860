"""The number of processor cores that a session uses."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

from harmless_runtime.model.cores import _cpu_quota, usable_cores


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
        "from harmless_runtime.model.cores import usable_cores; assert usable_cores() == 1"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(("setting", "cores"), [("1", 1), ("1,4", 1), ("100", None), ("all", None)])
def test_the_usual_limit_of_threads_counts(
    setting: str, cores: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    without = usable_cores()
    monkeypatch.setenv("OMP_NUM_THREADS", setting)
    assert usable_cores() == (cores or without)

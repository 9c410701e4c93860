"""Which execution provider is chosen, what is said about it, and how many cores it gets."""

import ctypes
import logging
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnxruntime as ort
import pytest

from harmless_runtime import providers
from harmless_runtime.errors import SessionError
from harmless_runtime.providers import _cpu_quota, _explain, select_provider


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "_has_driver", lambda: False)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "_has_driver", lambda: True)


@pytest.fixture
def cpu_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """What onnxruntime without CUDA says, with whichever the tests run."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])


@pytest.fixture
def cuda_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """An onnxruntime that claims to have CUDA, as onnxruntime-gpu does on any machine."""
    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: names)


@pytest.mark.usefixtures("no_gpu")
def test_auto_without_a_gpu_takes_the_cpu(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert select_provider("auto", 0) == "cpu"
    assert [r.levelname for r in caplog.records] == ["INFO"]
    assert "no NVIDIA GPU was found" in caplog.text
    caplog.clear()
    assert select_provider("cpu", 0) == "cpu"
    assert not caplog.text


@pytest.mark.usefixtures("gpu", "cpu_build")
def test_auto_warns_where_a_gpu_lies_idle(caplog: pytest.LogCaptureFixture) -> None:
    assert select_provider("auto", 0) == "cpu"
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "this machine has an NVIDIA GPU" in caplog.text
    assert "no CUDA execution provider (pip uninstall onnxruntime, then" in caplog.text
    with pytest.raises(SessionError, match="--provider cuda: this onnxruntime has no CUDA"):
        select_provider("cuda", 0)


@pytest.mark.usefixtures("gpu", "cpu_build")
def test_both_packages_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "version", lambda _: "1.31.1")
    with pytest.raises(SessionError, match="are both installed, and share one name"):
        select_provider("cuda", 0)


@pytest.mark.usefixtures("cuda_build")
def test_a_driver_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    load = ctypes.CDLL
    # The loader's own error, on machines that have one too.
    monkeypatch.setattr("ctypes.CDLL", lambda name: load(name + ".no"))
    with pytest.raises(SessionError, match=r"NVIDIA driver is missing \(libcuda.so.1.no cannot"):
        select_provider("cuda", 0)


@pytest.mark.usefixtures("cuda_build")
def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    load = ctypes.CDLL
    monkeypatch.setattr("ctypes.CDLL", lambda name: "libcuda" in name or load(name + ".no"))
    with pytest.raises(SessionError, match=r"libonnxruntime_providers_\w+.so.no cannot be loaded"):
        select_provider("cuda", 0)


def working(*_: object) -> None:
    pass


def failing(*_: object) -> None:
    raise RuntimeError("CUDA failure 101: invalid device ordinal ; GPU=3 ; hostname=box")


@pytest.mark.usefixtures("cuda_build")
@pytest.mark.parametrize("allocate", [working, failing])
def test_auto_takes_cuda_only_where_memory_can_be_had(
    allocate: Callable[..., None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("ctypes.CDLL", working)
    monkeypatch.setattr(ort.OrtValue, "ortvalue_from_numpy", allocate)
    assert select_provider("auto", 3) == ("cuda" if allocate is working else "cpu")
    if allocate is working:
        assert "running on CUDA device 3" in caplog.text
    else:
        with pytest.raises(SessionError, match="there is no device 3"):
            select_provider("cuda", 3)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            "libcublasLt.so.13: cannot open shared object file: No such file or directory",
            "libcublasLt.so.13 cannot be loaded (pip install '.[gpu]'",
        ),
        (
            "libcuda.so.1: cannot open shared object file: No such file or directory",
            "the NVIDIA driver is missing",
        ),
        (
            "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version",
            "older than this onnxruntime's CUDA",
        ),
        ("CUDA failure 100: no CUDA-capable device is detected", "CUDA_VISIBLE_DEVICES"),
        ("CUDA failure 101: invalid device ordinal", "there is no device 2"),
        ("something\nnew", "device 2 cannot be used: something new"),
    ],
)
def test_what_mends_it(error: str, said: str) -> None:
    assert said in _explain(error, 2)


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

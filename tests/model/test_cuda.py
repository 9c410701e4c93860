"""Errors of CUDA get a cause and a hint, and NVIDIA's libraries are found."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest

from harmless_runtime.model import cuda
from harmless_runtime.model.cuda import explain_cuda_error

FOR_CUDA_12 = "pip install 'onnxruntime-gpu[cuda,cudnn]==1.26.0' nvidia-cublas-cu12"
# Error texts of onnxruntime-gpu 1.31.1, and a part of what they are translated to.
ERRORS = [
    (
        "libcublasLt.so.13: cannot open shared object file: No such file or directory",
        "libcublasLt.so.13 cannot be loaded (pip install '.[gpu]'",
    ),
    (
        "libcudnn.so.9: cannot open shared object file: No such file or directory",
        "libcudnn.so.9 cannot be loaded (pip install '.[gpu]'",
    ),
    (
        "libcuda.so.1: cannot open shared object file: No such file or directory",
        "the NVIDIA driver is missing",
    ),
    ("CUDA failure 100: no CUDA-capable device is detected", "CUDA_VISIBLE_DEVICES"),
    ("CUDA failure 101: invalid device ordinal", "there is no device 2"),
    ("The device id 2 doesn't match any available GPUs", "there is no device 2"),
    (
        "CUDA error cudaErrorNoKernelImageForDevice:no kernel image is available for execution",
        f"has no code for this GPU (the last release for CUDA 12 supports it: {FOR_CUDA_12})",
    ),
    (
        "BF16 Attention requires Ampere (sm_80)+ with BF16 support. This GPU (cc 7.5) is not",
        "bf16 needs a GPU of compute capability 8.0 or higher",
    ),
    (
        "cuDNN is unavailable or disabled for CUDA Execution Provider: dlopen failed for",
        "onnxruntime does not find cuDNN",
    ),
    ("something\nnew", "something new"),
]


@pytest.mark.parametrize(("error", "said"), ERRORS)
def test_an_error_is_turned_into_a_cause_and_a_remedy(error: str, said: str) -> None:
    assert said in str(explain_cuda_error(error, 2))


class Driver:
    """A driver's library that reports one version, or 0 for none."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __call__(self, _: str) -> "Driver":
        return self

    def cuDriverGetVersion(self, number: Any) -> int:  # noqa: N802 - the driver's name for it
        number._obj.value = self._number
        return 0


@pytest.mark.parametrize(
    ("number", "name"),
    [(12040, "the NVIDIA driver (for CUDA 12.4) is too old"), (0, "the NVIDIA driver is too old")],
)
def test_a_driver_that_is_too_old_gets_the_release_for_its_cuda(
    number: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctypes.CDLL", Driver(number))
    monkeypatch.setattr(ort, "cuda_version", "13.0", raising=False)
    said = explain_cuda_error(
        "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime", 0
    )
    assert said.cause == f"{name} for onnxruntime-gpu {ort.__version__} (for CUDA 13.0)"
    assert said.hint is not None
    assert FOR_CUDA_12 in said.hint


def test_a_driver_is_found_by_its_library_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr("pathlib.Path.exists", lambda _: False)
    monkeypatch.setattr("ctypes.CDLL", Driver(0))
    assert cuda.has_driver(), "as under WSL"

    def missing(name: str) -> object:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", missing)
    assert not cuda.has_driver()


def compile_library(path: Path, source: str, *libraries: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    code = path.with_suffix(".c")
    code.write_text(source)
    soname = f"-Wl,-soname,{path.name}"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", path, code, soname, *libraries], check=True)


@pytest.mark.skipif(shutil.which("cc") is None, reason="not run: there is no C compiler")
def test_nvidias_packages_are_found_in_another_folder(tmp_path: Path) -> None:
    """Load real libraries that need each other, as onnxruntime's need CUDA's."""
    site = tmp_path / "site/nvidia"
    inner, outer = site / "cu13/lib/libfake_inner.so.1", site / "cublas/lib/libfake_outer.so.1"
    provider = tmp_path / "capi/libprovider.so"
    compile_library(inner, "int inner(void) { return 1; }")
    compile_library(outer, "int inner(void); int outer(void) { return inner(); }", inner)
    compile_library(provider, "int outer(void); int go(void) { return outer(); }", outer)
    program = (
        "import ctypes, sys; from harmless_runtime.model.cuda import _load\n"
        f"_load({str(provider)!r}); assert ctypes.CDLL({str(provider)!r}).go() == 1\n"
        "_load('libfake_inner.so.1')\n"
        "try:\n    _load('libfake_none.so.1')\nexcept OSError as error:\n    print(error)\n"
    )

    def run(*folders: Path) -> subprocess.CompletedProcess[str]:
        path = ":".join([str(f) for f in folders] + [p for p in sys.path if p])
        command = [sys.executable, "-c", program]
        return subprocess.run(
            command, env={"PYTHONPATH": path}, capture_output=True, text=True, check=False
        )

    assert "libfake_outer.so.1: cannot open" in run().stderr
    done = run(tmp_path / "site")
    assert done.returncode == 0, done.stderr
    assert "libfake_none.so.1: cannot open" in done.stdout

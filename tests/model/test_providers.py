"""Which execution provider is chosen, and what is logged about it."""

import ctypes
import logging
from collections.abc import Callable

import onnxruntime as ort
import pytest

from harmless_runtime.errors import SessionError
from harmless_runtime.model import cuda, providers
from harmless_runtime.model.providers import choose_provider


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "has_driver", lambda: False)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "has_driver", lambda: True)


@pytest.fixture
def cpu_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """An onnxruntime without CUDA, whichever build is installed."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])


@pytest.fixture
def cuda_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """An onnxruntime that claims to have CUDA, as onnxruntime-gpu does on any machine."""
    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: names)


@pytest.mark.usefixtures("no_gpu")
def test_auto_without_a_gpu_takes_the_cpu(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert choose_provider("auto", "auto") == "cpu"
    assert [r.levelname for r in caplog.records] == ["INFO"]
    assert "no NVIDIA GPU was found" in caplog.text
    caplog.clear()
    assert choose_provider("cpu", "auto") == "cpu"
    assert not caplog.text


@pytest.mark.usefixtures("gpu", "cpu_build")
def test_auto_warns_if_a_gpu_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    assert choose_provider("auto", "auto") == "cpu"
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "though an NVIDIA driver is installed" in caplog.text
    assert "no CUDA execution provider (pip uninstall onnxruntime, then" in caplog.text
    with pytest.raises(SessionError, match="cannot run on CUDA: this onnxruntime has no CUDA"):
        choose_provider("cuda", "auto")


@pytest.mark.usefixtures("gpu", "cpu_build")
def test_two_builds_of_onnxruntime_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "version", lambda _: "1.31.1")
    with pytest.raises(SessionError, match="are both installed, and share one name"):
        choose_provider("cuda", "auto")


@pytest.mark.usefixtures("cuda_build")
def test_a_driver_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    load = ctypes.CDLL
    # The loader gives its own error, even if the machine has a driver.
    monkeypatch.setattr("ctypes.CDLL", lambda name: load(name + ".no"))
    with pytest.raises(SessionError, match=r"NVIDIA driver is missing \(libcuda.so.1.no cannot"):
        choose_provider("cuda", "auto")


@pytest.mark.usefixtures("cuda_build")
def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    load = ctypes.CDLL
    monkeypatch.setattr("ctypes.CDLL", lambda name: "libcuda" in name or load(name + ".no"))
    with pytest.raises(SessionError, match=r"libonnxruntime_providers_\w+.so.no cannot be loaded"):
        choose_provider("cuda", "auto")


def working(*_: object) -> None:
    pass


def failing(*_: object) -> None:
    raise RuntimeError("CUDA failure 101: invalid device ordinal ; GPU=3 ; hostname=box")


@pytest.mark.usefixtures("cuda_build")
@pytest.mark.parametrize("allocate", [working, failing])
def test_auto_takes_cuda_only_if_it_can_allocate_memory(
    allocate: Callable[..., None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("ctypes.CDLL", working)
    monkeypatch.setattr(ort.OrtValue, "ortvalue_from_numpy", allocate)
    assert choose_provider("auto", "auto", 3) == ("cuda" if allocate is working else "cpu")
    if allocate is working:
        assert "CUDA device 3 was found" in caplog.text
    else:
        with pytest.raises(SessionError, match="there is no device 3"):
            choose_provider("cuda", "auto", 3)


@pytest.fixture
def working_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "cuda_obstacle", lambda _: None)


@pytest.mark.usefixtures("working_cuda")
def test_int8_never_runs_on_cuda(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert choose_provider("auto", "int8") == "cpu"
    assert caplog.messages == ["running on the CPU, because the model is in int8"]
    assert choose_provider("auto", "fp16") == choose_provider("cuda", "fp16") == "cuda"
    with pytest.raises(SessionError, match="int8 runs on CPUs only"):
        choose_provider("cuda", "int8")


@pytest.mark.usefixtures("no_gpu")
def test_bf16_never_runs_on_a_cpu() -> None:
    for requested in ("auto", "cpu"):
        with pytest.raises(SessionError, match="bf16 needs a GPU"):
            choose_provider(requested, "bf16")

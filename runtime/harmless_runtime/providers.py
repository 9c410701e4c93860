"""What was asked for, and what this machine has, to an execution provider; and why it is that one.

With `session.py`, the only module that knows onnxruntime.
"""

import ctypes
import io
import logging
import math
import os
import re
import shutil
from contextlib import redirect_stdout
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime as ort

from harmless_runtime.errors import SessionError, one_line

logger = logging.getLogger(__name__)

Provider = Literal["cpu", "cuda"]
NAMES: dict[Provider, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def select_provider(requested: str, device: int) -> Provider:
    """Choose the execution provider: `cpu`, `cuda`, or for `auto` CUDA where it works.

    Raises:
        SessionError: CUDA was asked for by name and does not work here; the message says why, and
            what mends it.
    """
    if requested == "cpu":
        return "cpu"
    obstacle = _cuda_obstacle(device)
    if obstacle is None:
        if requested == "auto":
            logger.info("running on CUDA device %d", device)
        return "cuda"
    if requested == "cuda":
        where = "" if _has_driver() else "no NVIDIA GPU was found here, and "
        raise SessionError(f"--provider cuda: {where}{obstacle}")
    if _has_driver():
        logger.warning("running on the CPU, though this machine has an NVIDIA GPU: %s", obstacle)
    else:
        logger.info("running on the CPU: no NVIDIA GPU was found")
    return "cpu"


def _has_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def _cuda_obstacle(device: int) -> str | None:
    """Say why CUDA cannot be used, or None where a buffer can be allocated on the device."""
    if NAMES["cuda"] not in ort.get_available_providers():
        if _installed("onnxruntime") and _installed("onnxruntime-gpu"):
            return (
                "onnxruntime and onnxruntime-gpu are both installed, and share one name (pip "
                "uninstall onnxruntime onnxruntime-gpu, then pip install '.[gpu]' in the project's "
                "folder)"
            )
        return (
            "this onnxruntime has no CUDA execution provider "
            "(pip uninstall onnxruntime, then pip install '.[gpu]' in the project's folder)"
        )
    library = Path(ort.__file__).with_name("capi") / "libonnxruntime_providers_cuda.so"
    try:
        # The driver's first: without one, some 200 MB of libraries need not be loaded.
        ctypes.CDLL("libcuda.so.1")
        with redirect_stdout(io.StringIO()):  # where it prints what it does not find
            ort.preload_dlls()
        # onnxruntime's own error does not name the library that is missing.
        for name in ("libonnxruntime_providers_shared.so", library.name):
            ctypes.CDLL(str(library.with_name(name)))
        ort.OrtValue.ortvalue_from_numpy(np.zeros(1, np.int64), "cuda", device)
    except Exception as error:  # onnxruntime raises RuntimeError and its own kinds
        return _explain(str(error), device)
    return None


def _installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


def _explain(error: str, device: int) -> str:
    """Put what mends it behind what onnxruntime, or CUDA in it, says."""
    if library := re.search(r"(lib[\w.-]+): cannot open shared object file", error):
        if library[1].startswith("libcuda.so"):
            return f"the NVIDIA driver is missing ({library[1]} cannot be loaded): install it"
        return (
            f"{library[1]} cannot be loaded (pip install '.[gpu]' in the project's folder brings "
            "the CUDA libraries)"
        )
    if re.search(r"driver version is insufficient", error, re.IGNORECASE):
        return "the NVIDIA driver is missing, or older than this onnxruntime's CUDA: update it"
    if re.search(r"no CUDA-capable device", error, re.IGNORECASE):
        return "CUDA sees no GPU (nvidia-smi lists them; CUDA_VISIBLE_DEVICES can hide them)"
    if re.search(r"invalid device ordinal", error, re.IGNORECASE):
        return f"there is no device {device} (nvidia-smi -L lists them, from 0)"
    return f"device {device} cannot be used: {one_line(error)}"


def check_precision(precision: str, provider: Provider, model: str) -> None:
    """Raise SessionError for a precision that the provider has no kernels for."""
    if precision == "bf16" and provider == "cpu":
        raise SessionError(
            f"{model} in bf16 needs a GPU, because ONNX Runtime's CPU execution provider has no "
            "bf16 kernels: use --provider cuda, or export with --precision fp32"
        )
    if precision == "int8" and provider == "cuda":
        raise SessionError(
            f"{model} in int8 runs on CPUs only, because ONNX Runtime's CUDA execution provider "
            "has no kernels for its products: use --provider cpu, or export with --precision fp16"
        )


def provider_for(precision: str, requested: str, selected: Provider) -> Provider:
    """The provider for an artifact: for `auto` and int8, which has no CUDA kernels, the CPU."""
    return "cpu" if requested == "auto" and precision == "int8" else selected


def usable_cores() -> int:
    """Count the processor cores that this process may use, hyper-threads not counted twice.

    ONNX Runtime itself counts the host's, whatever a container is allowed. A matrix product gains
    nothing from a second thread on a core.
    """
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    cores = len({_siblings(cpu) for cpu in allowed}) or os.cpu_count() or 1
    return math.ceil(min(cores, _cpu_quota()))


def _siblings(cpu: int) -> str:
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return path.read_text()
    except OSError:
        return str(cpu)


def _cpu_quota(root: Path = Path("/sys/fs/cgroup")) -> float:
    """The processors' worth of time that Linux grants this container, or infinity."""
    try:  # version 2 of control groups, then version 1
        if (root / "cpu.max").exists():
            quota, period = (root / "cpu.max").read_text().split()
        else:
            quota, period = (
                (root / f"cpu/cpu.cfs_{name}_us").read_text() for name in ("quota", "period")
            )
        return float(quota) / float(period) if float(quota) > 0 else math.inf
    except (OSError, ValueError):  # no control groups, or a quota of `max`
        return math.inf

"""Batches of token ids to rewards: the only module that knows onnxruntime."""

import logging
import math
import os
import shutil
import threading
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

# Recent releases send telemetry to Microsoft on Linux too, unless told not to before they load:
# 1.32 by the first name, microsoft/onnxruntime#29843 by the second.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("ORT_TELEMETRY_DISABLED", "1")
import onnxruntime as ort

from harmless_runtime.artifact import Artifact
from harmless_runtime.errors import SessionError

logger = logging.getLogger(__name__)

Provider = Literal["cpu", "cuda"]
_PROVIDER_NAMES = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def select_provider(requested: str, device: int) -> Provider:
    """Choose the execution provider: `cpu`, `cuda`, or for `auto` CUDA where it works.

    Raises:
        SessionError: CUDA was asked for by name and does not work here.
    """
    if requested == "cpu":
        return "cpu"
    obstacle = _cuda_obstacle(device)
    if obstacle is None:
        return "cuda"
    if requested == "cuda":
        raise SessionError(f"--provider cuda: {obstacle}")
    # Without a GPU there is nothing to tell: the CPU is what was to be expected.
    if shutil.which("nvidia-smi"):
        logger.warning("scoring on the CPU, though this machine has an NVIDIA GPU: %s", obstacle)
    return "cpu"


def _cuda_obstacle(device: int) -> str | None:
    """Say why CUDA cannot be used, or None where a buffer can be allocated on the device."""
    if _PROVIDER_NAMES["cuda"] not in ort.get_available_providers():
        return (
            "this onnxruntime has no CUDA execution provider "
            "(pip uninstall onnxruntime, then pip install '.[gpu]' in the project's folder)"
        )
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    try:
        ort.OrtValue.ortvalue_from_numpy(np.zeros(1, np.int64), "cuda", device)
    except Exception as error:  # onnxruntime raises RuntimeError and its own kinds
        return f"device {device} cannot be used: {_one_line(error)}"
    return None


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


class Session:
    """An artifact loaded on one device, with buffers that are allocated once.

    I/O binding is used on every provider, so that the CPU runs the code that the GPU runs.

    Args:
        artifact: the opened artifact.
        provider: where to run, as `select_provider` returns it.
        device: the CUDA device's number.
        max_tokens: the most ids, padding included, that one run takes.

    Raises:
        SessionError: the artifact's precision does not run there, or onnxruntime cannot load it.
    """

    def __init__(
        self, artifact: Artifact, provider: Provider, device: int, max_tokens: int
    ) -> None:
        check_precision(artifact.manifest.precision, provider, str(artifact.folder))
        options = ort.SessionOptions()
        options.log_severity_level = 3  # errors
        options.intra_op_num_threads = usable_cores()
        provider_options: dict[str, str] = {}
        if provider == "cuda":
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
            options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
            provider_options["device_id"] = str(device)
        name = _PROVIDER_NAMES[provider]
        try:
            self._session = ort.InferenceSession(
                artifact.model, options, providers=[(name, provider_options)]
            )
        except Exception as error:  # onnxruntime's own kinds have no public base
            raise SessionError(f"cannot load {artifact.model}: {_one_line(error)}") from error
        self._session.disable_fallback()
        if name not in self._session.get_providers():
            raise SessionError(f"onnxruntime fell back from {name} on loading {artifact.model}")
        self.provider = provider
        self._device = device if provider == "cuda" else 0
        self._staging = np.zeros(max_tokens, np.int64)
        self._ids = ort.OrtValue.ortvalue_from_shape_and_type(
            [max_tokens], np.int64, provider, self._device
        )
        self._logits = np.zeros(max_tokens, np.float32)
        self._binding = self._session.io_binding()
        self._lock = threading.Lock()

    def run(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Score a batch; threads that share a session take turns.

        Args:
            ids: int64 [batch_size, sequence_length], padded on the right, at most `max_tokens`.

        Returns:
            The rewards, float32 [batch_size], in a new array.

        Raises:
            SessionError: onnxruntime failed, or the batch is larger than the buffers.
        """
        rows = len(ids)
        if ids.size > self._staging.size:
            raise SessionError(f"a batch of {ids.size} tokens exceeds {self._staging.size}")
        with self._lock:
            return self._run(ids, rows)

    def _run(self, ids: NDArray[np.int64], rows: int) -> NDArray[np.float32]:
        self._staging[: ids.size] = ids.ravel()
        try:
            self._ids.update_inplace(self._staging)
            self._binding.bind_input(
                "input_ids",
                self.provider,
                self._device,
                np.int64,
                list(ids.shape),
                self._ids.data_ptr(),
            )
            self._binding.bind_output(
                "logits", "cpu", 0, np.float32, [rows, 1], self._logits.ctypes.data
            )
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # onnxruntime's own kinds have no public base
            raise SessionError(f"onnxruntime failed on {ids.shape}: {_one_line(error)}") from error
        return self._logits[:rows].copy()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]

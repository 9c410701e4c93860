"""Choose the execution provider: what was asked for, what this machine has, and why it is that one.

`providers.py`, `cuda.py` and `session.py` are the only modules that know onnxruntime.
"""

import logging

from harmless_runtime.config import Provider
from harmless_runtime.errors import SessionError
from harmless_runtime.model.cuda import cuda_obstacle, has_driver

logger = logging.getLogger(__name__)

NAMES: dict[Provider, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def select_provider(requested: str, device: int) -> Provider:
    """Choose `cpu`, `cuda`, or for `auto` CUDA if it works here.

    Raises:
        SessionError: CUDA was asked for by name and does not work here; the message says why, and
            what to do.
    """
    if requested == "cpu":
        return "cpu"
    obstacle = cuda_obstacle(device)
    if obstacle is None:
        if requested == "auto":
            logger.info("CUDA device %d was found", device)
        return "cuda"
    if requested == "cuda":
        where = "" if has_driver() else "no NVIDIA GPU was found here, and "
        raise SessionError(f"--provider cuda: {where}{obstacle}")
    if has_driver():
        logger.warning("running on the CPU, though this machine has an NVIDIA GPU: %s", obstacle)
    else:
        logger.info("running on the CPU: no NVIDIA GPU was found")
    return "cpu"


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
    """Return the provider for an artifact: for `auto` and int8, which CUDA cannot run, the CPU."""
    return "cpu" if requested == "auto" and precision == "int8" else selected

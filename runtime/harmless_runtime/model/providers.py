"""Choose the execution provider, and log the reason."""

import logging

from harmless_runtime.choices import PrecisionChoice, Provider, ProviderChoice
from harmless_runtime.errors import SessionError
from harmless_runtime.model.cuda import cuda_obstacle, has_driver

logger = logging.getLogger(__name__)


def choose_provider(
    requested: ProviderChoice, precision: PrecisionChoice, device: int = 0
) -> Provider:
    """Choose where to run an artifact.

    Args:
        requested: `cpu`, `cuda`, or `auto` for CUDA if it works here and can run the precision.
        precision: the artifact's, or `auto` for a checkpoint that can be exported in any.
        device: number of the CUDA device.

    Raises:
        SessionError: CUDA was asked for and does not work here, or the only provider that may be
            used cannot run the precision.
    """
    if requested == "cuda" and precision == "int8":
        raise SessionError(
            "int8 runs on CPUs only, because ONNX Runtime's CUDA execution provider has no kernels "
            "for its products",
            "set `provider` to cpu, or export the checkpoint in fp16",
        )
    if precision == "int8":
        if requested == "auto":
            logger.info("running on the CPU, because the model is in int8")
        return "cpu"
    if requested != "cpu" and _cuda_works(requested, device):
        return "cuda"
    if precision == "bf16":
        raise SessionError(
            "bf16 needs a GPU, because ONNX Runtime's CPU execution provider has no bf16 kernels",
            "run on a machine with a GPU, or export the checkpoint in fp32",
        )
    return "cpu"


def _cuda_works(requested: ProviderChoice, device: int) -> bool:
    """Return whether CUDA works here, and log the reason for the choice.

    Raises:
        SessionError: CUDA was requested by name and does not work.
    """
    obstacle = cuda_obstacle(device)
    if obstacle is None:
        if requested == "auto":
            logger.info("CUDA device %d was found", device)
        return True
    if requested == "cuda":
        if has_driver():
            raise SessionError(f"cannot run on CUDA: {obstacle.cause}", obstacle.hint)
        raise SessionError(
            f"cannot run on CUDA: no NVIDIA GPU was found here, and {obstacle.cause}",
            f"set `provider` to cpu; with a GPU: {obstacle.hint}",
        )
    if has_driver():
        logger.warning("running on the CPU, though an NVIDIA driver is installed: %s", obstacle)
    else:
        logger.info("running on the CPU: no NVIDIA GPU was found")
    return False

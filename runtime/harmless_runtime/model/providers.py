"""Choose the execution provider, and log the reason."""

import logging

from harmless_runtime.choices import PrecisionChoice, Provider, ProviderChoice
from harmless_runtime.config import ScorerConfig
from harmless_runtime.errors import ConfigError, SessionError
from harmless_runtime.model import openvino
from harmless_runtime.model.cores import usable_cores
from harmless_runtime.model.cuda import cuda_obstacle, has_driver
from harmless_runtime.model.processor import this_processor
from harmless_runtime.model.target import Target

logger = logging.getLogger(__name__)


def choose_provider(
    requested: ProviderChoice, precision: PrecisionChoice, device: int = 0
) -> Provider:
    """Choose where to run an artifact.

    Args:
        requested: `cpu`, `cuda`, `openvino`, or `auto`: CUDA if it works here and can run the
            precision, and else the CPU.
        precision: the artifact's, or `auto` for a checkpoint that can be exported in any.
        device: number of the CUDA device.

    Raises:
        SessionError: CUDA or OpenVINO was asked for and does not work here, or the only provider
            that may be used cannot run the precision.
    """
    if requested == "openvino":
        if precision not in ("auto", "fp32"):
            raise SessionError(
                f"OpenVINO runs artifacts in fp32, and this one is in {precision}",
                "export the checkpoint in fp32; `compute` says what OpenVINO computes it in",
            )
        openvino.find_device()
        return "openvino"
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


def target_on(provider: Provider, config: ScorerConfig, *, for_many_rows: bool = False) -> Target:
    """Return where a session runs, with the settings that belong to its provider.

    Args:
        provider: as `choose_provider` returns it.
        config: the settings.
        for_many_rows: as in `load_engine`.

    Raises:
        ConfigError: `compute` is set, and the provider is not OpenVINO.
        SessionError: the processor cannot compute in bf16, which was asked for.
    """
    if config.compute != "auto" and provider != "openvino":
        raise ConfigError(
            f"compute is {config.compute}, but only OpenVINO can compute in another precision than "
            "the artifact's",
            "leave `compute` out, or set `provider` to openvino",
        )
    if provider == "cuda":
        return Target(provider, config.device, config.gpu_memory)
    streams = config.streams or 1
    if provider == "openvino":
        if for_many_rows and config.streams is None:
            streams = openvino.default_streams()
        compute = openvino.choose_compute(config.compute)
        return Target(provider, compute=compute, streams=streams)
    if for_many_rows and config.streams is None:
        streams = usable_cores()
    return Target(provider, streams=streams)


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
        logger.info("running on %s: no NVIDIA GPU was found", this_processor())
    return False

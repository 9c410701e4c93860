"""Run fp32 artifacts through OpenVINO, which is a plug-in execution provider of ONNX Runtime.

How it is called, and every fact about it, was seen with onnxruntime-ep-openvino 1.8.1 and
onnxruntime 1.32.
"""

import json
import threading
from importlib.util import find_spec
from typing import Any

import onnxruntime as ort

from harmless_runtime.choices import Compute, ComputeChoice
from harmless_runtime.errors import SessionError, one_line
from harmless_runtime.model.artifact import Artifact
from harmless_runtime.model.cores import usable_cores
from harmless_runtime.model.processor import this_processor
from harmless_runtime.model.target import Target

NAME = "OpenVINOExecutionProvider"
INSTALL = "pip install '.[openvino]' in the project's folder"
_registering = threading.Lock()
_PACKAGE = "onnxruntime_ep_openvino"
_ON_THE_CPU = "set `provider` to cpu"
# Graphs of earlier releases have FastGelu, which OpenVINO does not know.
_OPSET = 20


def is_installed() -> bool:
    """Return whether the plug-in is installed. It may still not work here."""
    return find_spec(_PACKAGE) is not None


def find_device() -> Any:
    """Return OpenVINO's device for the processor, an `onnxruntime.OrtEpDevice`.

    Raises:
        SessionError: the plug-in is missing or cannot be loaded, or lists no processor.
    """
    if not is_installed():
        if this_processor().maker not in ("GenuineIntel", ""):
            raise _not_intel()
        raise SessionError("cannot run on OpenVINO: its plug-in is not installed", INSTALL)
    try:
        _register()
        devices = ort.get_ep_devices()
    except Exception as error:  # ONNX Runtime's own error types have no public base class
        raise SessionError(
            f"cannot run on OpenVINO: its plug-in cannot be loaded: {one_line(error)}",
            f"{INSTALL} brings versions that fit; or {_ON_THE_CPU}",
        ) from error
    for device in devices:
        if device.ep_name == NAME and device.device.type == ort.OrtHardwareDeviceType.CPU:
            return device
    raise _not_intel()


def _not_intel() -> SessionError:
    return SessionError(
        "cannot run on OpenVINO: its plug-in runs on processors of Intel, and this is "
        f"{this_processor().name}",
        _ON_THE_CPU,
    )


def _register() -> None:
    """Register the plug-in, unless this or the program around it has done so."""
    import onnxruntime_ep_openvino

    path = onnxruntime_ep_openvino.get_library_path()
    with _registering:
        if all(device.ep_name != NAME for device in ort.get_ep_devices()):
            try:
                ort.register_execution_provider_library("openvino", path)
            except Exception as error:  # a plug-in without devices is registered as well
                if "already registered" not in str(error):
                    raise


def choose_compute(choice: ComputeChoice) -> Compute:
    """Choose what a model is computed in: bf16 where the processor has AMX, and else fp32.

    Raises:
        SessionError: bf16 was asked for, and the processor would have to emulate it; or as
            `find_device`.
    """
    device = find_device()
    if choice == "auto":
        return "bf16" if this_processor().has_amx else "fp32"
    if choice == "bf16" and "BF16" not in device.ep_metadata["OPTIMIZATION_CAPABILITIES"].split():
        raise SessionError(
            f"{this_processor().name} has no instructions for bf16, and to emulate them takes many "
            "times as long as fp32",
            "set `compute` to fp32",
        )
    return choice


def default_streams() -> int:
    """Return how many batches run at once: one for each four cores."""
    return max(1, usable_cores() // 4)


def add_openvino(options: ort.SessionOptions, artifact: Artifact, target: Target) -> None:
    """Let a session run on OpenVINO's device for the processor, with all of its nodes.

    Raises:
        SessionError: the artifact's graph is of an earlier release; or as `find_device`.
    """
    if artifact.manifest.opset < _OPSET:
        raise SessionError(
            f"{artifact.folder} was exported by an earlier release, with operators that OpenVINO "
            "does not know",
            "export it again",
        )
    settings = {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[target.compute],
        "INFERENCE_NUM_THREADS": str(target.threads or usable_cores()),
        "NUM_STREAMS": str(target.streams),
    }
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    options.add_provider_for_devices(
        [find_device()], {"load_config": json.dumps({"CPU": settings})}
    )

"""Find out whether CUDA works here, and translate the errors of CUDA and ONNX Runtime.

Every error text in this module was seen with onnxruntime-gpu 1.31.1.
"""

import ctypes
import io
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime as ort

from harmless_runtime.errors import one_line

# onnxruntime-gpu 1.26 and later need cuDNN for their attention and reductions.
_CUDNN = "libcudnn.so.9"
_INSTALL = "pip install '.[gpu]' in the project's folder"
# The last release for CUDA 12. Its wheel has code for every GPU from compute capability 6.0 on. The
# wheels for CUDA 13 leave out 6.x, 7.0 and 10.x.
_FOR_CUDA_12 = "pip install 'onnxruntime-gpu[cuda,cudnn]==1.26.0' nvidia-cublas-cu12"


@dataclass(frozen=True)
class Obstacle:
    """Why something does not work on CUDA, and what to do about it, if that is known."""

    cause: str
    hint: str | None = None

    def __str__(self) -> str:
        return f"{self.cause} ({self.hint})" if self.hint else self.cause


def has_driver() -> bool:
    """Return whether this machine has an NVIDIA driver.

    Under WSL, only `libcuda.so.1` is there. A container may lack that library.
    """
    if Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None:
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def cuda_obstacle(device: int) -> Obstacle | None:
    """Return why CUDA cannot be used, or None if a buffer can be allocated on the device.

    The libraries of CUDA and cuDNN stay loaded, so that a session finds them.
    """
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        if _is_installed("onnxruntime") and _is_installed("onnxruntime-gpu"):
            return Obstacle(
                "onnxruntime and onnxruntime-gpu are both installed, and share one name",
                f"pip uninstall onnxruntime onnxruntime-gpu, then {_INSTALL}",
            )
        return Obstacle(
            "this onnxruntime has no CUDA execution provider",
            f"pip uninstall onnxruntime, then {_INSTALL}",
        )
    folder = Path(ort.__file__).with_name("capi")
    try:
        # The driver comes first: without one, some 200 MB of libraries need not be loaded.
        ctypes.CDLL("libcuda.so.1")
        with redirect_stdout(io.StringIO()):  # it prints the libraries that it misses
            ort.preload_dlls()
        # If a library is missing, onnxruntime's own error does not name it.
        _load(str(folder / "libonnxruntime_providers_shared.so"))
        _load(str(folder / "libonnxruntime_providers_cuda.so"))
        _load(_CUDNN)
        with no_warnings():
            ort.OrtValue.ortvalue_from_numpy(np.zeros(1, np.int64), "cuda", device)
    except Exception as error:  # ONNX Runtime raises RuntimeError and types of its own
        return explain_cuda_error(str(error), device)
    return None


@contextmanager
def no_warnings() -> Iterator[None]:
    """Let ONNX Runtime's default logger print errors only.

    Release 1.31 warns of a device that does not exist, which is raised as an error as well. It also
    warns of a plug-in that nobody needs whenever a session gets a `device_id`. The logger's
    severity cannot be read, so afterwards it is 2 (warnings), which is the default.
    """
    ort.set_default_logger_severity(3)
    try:
        yield
    finally:
        ort.set_default_logger_severity(2)


def _is_installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


def _load(library: str) -> None:
    """Load a library, and the libraries of NVIDIA's packages that it needs.

    `preload_dlls` looks only beside onnxruntime. The packages may be in another folder of
    `sys.path`, for example if an environment uses the packages of the system.

    Raises:
        OSError: the loader's own error, which names the missing library.
    """
    loaded: set[Path] = set()
    while True:
        try:
            ctypes.CDLL(library)
            return
        except OSError as error:
            missing = re.match(r"([\w.-]+): cannot open shared object file", str(error))
            found = _in_nvidia_packages(missing[1]) if missing else None
            if missing is None or found is None or found in loaded:
                raise
            loaded.add(found)
            if missing[1] == library:
                library = str(found)
            else:
                _load(str(found))


def _in_nvidia_packages(library: str) -> Path | None:
    """Find a library in NVIDIA's packages, for example `nvidia/cu13/lib/libcublas.so.13`."""
    spec = find_spec("nvidia")
    for folder in spec.submodule_search_locations or [] if spec else []:
        for path in sorted(Path(folder).glob(f"*/lib/{library}")):
            return path
    return None


def explain_cuda_error(error: str, device: int) -> Obstacle:
    """Translate an error of ONNX Runtime or CUDA into a cause and a hint.

    Args:
        error: the text of the error. A text that is not known here becomes the cause, on one line.
        device: number of the CUDA device that was asked for.
    """
    if library := re.search(r"(lib[\w.-]+): cannot open shared object file", error):
        if library[1].startswith("libcuda.so"):
            return Obstacle(
                f"the NVIDIA driver is missing ({library[1]} cannot be loaded)",
                "install the NVIDIA driver",
            )
        kind = "cuDNN" if library[1].startswith("libcudnn") else "the CUDA libraries"
        return Obstacle(f"{library[1]} cannot be loaded", f"{_INSTALL} brings {kind}")
    if re.search("driver version is insufficient", error, re.IGNORECASE):
        return Obstacle(
            f"{_driver()} is too old for {_build()}",
            f"update the driver, or take the last release for CUDA 12: {_FOR_CUDA_12}",
        )
    if "no CUDA-capable device" in error:
        return Obstacle(
            "CUDA sees no GPU", "nvidia-smi lists all GPUs; CUDA_VISIBLE_DEVICES can hide some"
        )
    if re.search("invalid device ordinal|doesn't match any available GPUs", error):
        return Obstacle(f"there is no device {device}", "nvidia-smi -L lists the devices, from 0")
    if "no kernel image is available" in error:
        return Obstacle(
            f"{_build()} has no code for this GPU",
            f"the last release for CUDA 12 supports it: {_FOR_CUDA_12}",
        )
    if "requires Ampere" in error:
        return Obstacle(
            "bf16 needs a GPU of compute capability 8.0 or higher, and this one has less",
            "export the checkpoint in fp16",
        )
    if "cuDNN is unavailable" in error:
        return Obstacle("onnxruntime does not find cuDNN", f"{_INSTALL} brings it")
    return Obstacle(one_line(error))


def _build() -> str:
    return f"onnxruntime-gpu {ort.__version__} (for CUDA {getattr(ort, 'cuda_version', '?')})"


def _driver() -> str:
    """Return a name for the driver that includes the newest CUDA version that it runs."""
    number = ctypes.c_int()
    try:
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(number))
    except (OSError, AttributeError):
        return "the NVIDIA driver"
    if not number.value:
        return "the NVIDIA driver"
    return f"the NVIDIA driver (for CUDA {number.value // 1000}.{number.value % 1000 // 10})"

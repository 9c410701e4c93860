"""Tell whether CUDA works here, and turn what CUDA and ONNX Runtime say into a cause and a remedy.

Every error text that is looked for here was seen with onnxruntime-gpu 1.31.1.
"""

import ctypes
import io
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime as ort

from harmless_runtime.errors import one_line

# onnxruntime-gpu 1.26 and later run their attention and reductions only if they can load it.
_CUDNN = "libcudnn.so.9"
_INSTALL = "pip install '.[gpu]' in the project's folder"
# The last release for CUDA 12. Its wheel has code for every GPU from compute capability 6.0 on,
# those that the wheels for CUDA 13 leave out (6.x, 7.0 and 10.x) among them.
_FOR_CUDA_12 = "pip install 'onnxruntime-gpu[cuda,cudnn]==1.26.0' nvidia-cublas-cu12"


def has_driver() -> bool:
    """Tell whether this machine has an NVIDIA driver.

    Under WSL there is only the driver's library; in a container, perhaps only the other two.
    """
    if Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None:
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def cuda_obstacle(device: int) -> str | None:
    """Say why CUDA cannot be used, or return None if a buffer can be allocated on the device.

    It loads the libraries of CUDA and cuDNN, so that a session finds them.
    """
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        if _installed("onnxruntime") and _installed("onnxruntime-gpu"):
            return (
                "onnxruntime and onnxruntime-gpu are both installed, and share one name (pip "
                f"uninstall onnxruntime onnxruntime-gpu, then {_INSTALL})"
            )
        return (
            "this onnxruntime has no CUDA execution provider (pip uninstall onnxruntime, then "
            f"{_INSTALL})"
        )
    folder = Path(ort.__file__).with_name("capi")
    try:
        # The driver comes first: without one, some 200 MB of libraries need not be loaded.
        ctypes.CDLL("libcuda.so.1")
        with redirect_stdout(io.StringIO()):  # where it prints what it does not find
            ort.preload_dlls()
        # If a library is missing, onnxruntime's own error does not name it.
        _load(str(folder / "libonnxruntime_providers_shared.so"))
        _load(str(folder / "libonnxruntime_providers_cuda.so"))
        _load(_CUDNN)
        with no_warnings():
            ort.OrtValue.ortvalue_from_numpy(np.zeros(1, np.int64), "cuda", device)
    except Exception as error:  # onnxruntime raises RuntimeError and its own kinds
        return explain(str(error), device)
    return None


@contextmanager
def no_warnings() -> Iterator[None]:
    """Have onnxruntime's default logger say nothing but errors.

    1.31 warns of a device that is not there, which is an error as well, and, whenever a session
    gets a `device_id`, of a plug-in that nobody needs. There is no way to ask for the logger's
    severity: afterwards it is 2, warnings, which is onnxruntime's own default.
    """
    ort.set_default_logger_severity(3)
    try:
        yield
    finally:
        ort.set_default_logger_severity(2)


def _installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


def _load(library: str) -> None:
    """Load a library, and those of NVIDIA's packages that it needs, wherever they are installed.

    `preload_dlls` looks beside onnxruntime only. The packages may be in another folder of
    `sys.path`, for example if an environment uses the packages of the system.

    Raises:
        OSError: the loader's own error, which names the library that is missing.
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
    """Return where NVIDIA's packages keep a library, such as `nvidia/cu13/lib/libcublas.so.13`."""
    spec = find_spec("nvidia")
    for folder in spec.submodule_search_locations or [] if spec else []:
        for path in sorted(Path(folder).glob(f"*/lib/{library}")):
            return path
    return None


def explain(error: str, device: int) -> str:
    """Turn an error of ONNX Runtime or CUDA into a cause and a remedy, or else into one line.

    Args:
        error: the text of the error.
        device: the number of the device that was asked for.
    """
    if library := re.search(r"(lib[\w.-]+): cannot open shared object file", error):
        if library[1].startswith("libcuda.so"):
            return f"the NVIDIA driver is missing ({library[1]} cannot be loaded): install it"
        kind = "cuDNN" if library[1].startswith("libcudnn") else "the CUDA libraries"
        return f"{library[1]} cannot be loaded ({_INSTALL} brings {kind})"
    if re.search("driver version is insufficient", error, re.IGNORECASE):
        return (
            f"{_driver()} is too old for {_build()}: update the driver, or take the last release "
            f"for CUDA 12 ({_FOR_CUDA_12})"
        )
    if "no CUDA-capable device" in error:
        return "CUDA sees no GPU (nvidia-smi lists them; CUDA_VISIBLE_DEVICES can hide them)"
    if re.search("invalid device ordinal|doesn't match any available GPUs", error):
        return f"there is no device {device} (nvidia-smi -L lists them, from 0)"
    if "no kernel image is available" in error:
        return (
            f"{_build()} has no code for this GPU: one that has is the last release for CUDA 12 "
            f"({_FOR_CUDA_12})"
        )
    if "requires Ampere" in error:
        return (
            "bf16 needs a GPU of compute capability 8.0 or higher, and this one has less: export "
            "with --precision fp16"
        )
    if "cuDNN is unavailable" in error:
        return f"onnxruntime does not find cuDNN ({_INSTALL} brings it)"
    return one_line(error)


def _build() -> str:
    return f"onnxruntime-gpu {ort.__version__}, built for CUDA {getattr(ort, 'cuda_version', '?')},"


def _driver() -> str:
    """Name the driver by the newest CUDA that it runs, as `nvidia-smi` shows it."""
    number = ctypes.c_int()
    try:
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(number))
    except (OSError, AttributeError):
        return "the NVIDIA driver"
    if not number.value:
        return "the NVIDIA driver"
    return f"the NVIDIA driver, for CUDA {number.value // 1000}.{number.value % 1000 // 10},"

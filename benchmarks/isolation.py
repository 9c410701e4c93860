"""One measurement to one fresh process: no threads, caches or memory of another in it."""

import multiprocessing
import os
import platform
import resource
import subprocess
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "harmless-scorer", "numpy", "onnxruntime", "onnxruntime-gpu", "optimum", "optimum-onnx",
    "tokenizers", "torch", "transformers",
)  # fmt: skip


def in_a_process(function: Callable[..., dict[str, Any]], *args: object) -> dict[str, Any]:
    """Call a function in a fresh process, and return what it does, or why it could not.

    Returns:
        The function's result with `peak_gb`, the process's peak resident memory, added;
        `{"missing": …}` where a package is not installed; `{"failed": …}` for another error.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        try:
            return executor.submit(_call, function, *args).result()
        except Exception as error:  # such as a process killed for its memory
            return {"failed": f"{type(error).__name__}: {error}"[:300]}


def _call(function: Callable[..., dict[str, Any]], *args: object) -> dict[str, Any]:
    try:
        result = function(*args)
    except ImportError as error:
        return {"missing": str(error)}
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return result | {"peak_gb": round(peak / 1e9, 2)}


def describe_machine(provider: str) -> dict[str, Any]:
    """Say what the figures were measured on, and with which versions."""
    machine: dict[str, Any] = {
        "cpu": _cpu_name(),
        "cpus": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    if provider == "cuda":
        query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        machine["gpu"] = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return machine | {"versions": versions}


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            flags = [f for f in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16") if has_flag(f)]
            return f"{value.strip()} ({', '.join(flags)})"
    return platform.processor()


def has_flag(flag: str) -> bool:
    """Tell whether the processor has an instruction set, by Linux's name for it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return flag in line.split()
    return False

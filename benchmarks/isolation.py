"""One measurement to one fresh process: no threads, caches or memory of another in it."""

import json
import multiprocessing
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

PACKAGES = (
    "harmless-scorer", "numpy", "onnxruntime", "onnxruntime-gpu", "optimum", "optimum-onnx",
    "tokenizers", "torch", "transformers",
)  # fmt: skip


def in_a_process(
    function: Callable[..., dict[str, Any]], *args: object, timeout: float | None = None
) -> dict[str, Any]:
    """Call a function in a fresh process, and return what it does, or why it could not.

    Args:
        function: what to call; it has to be importable.
        args: its arguments.
        timeout: the process is killed after so many seconds.

    Returns:
        The function's result with `peak_gb`, the process's peak resident memory, added;
        `{"missing": …}` where a package is not installed; `{"failed": …}` for another error.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, function, *args))
    process.start()
    sender.close()
    try:
        if not receiver.poll(timeout):
            return {"failed": f"not done after {timeout:.0f} s"}
        result: dict[str, Any] = receiver.recv()
        return result
    except EOFError:  # such as a process killed for its memory
        process.join()
        return {"failed": f"its process ended with exit code {process.exitcode}"}
    finally:
        process.kill()
        process.join()


def _send(sender: Connection, function: Callable[..., dict[str, Any]], *args: object) -> None:
    sender.send(_call(function, *args))


def _call(function: Callable[..., dict[str, Any]], *args: object) -> dict[str, Any]:
    try:
        result = function(*args)
    except ImportError as error:
        return {"missing": str(error)}
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]}
    return result | {"peak_gb": round(_own_peak() / 1e9, 2)}


def _own_peak() -> int:
    """This process's peak resident memory in bytes, that of its parent before it left out.

    Linux counts into `ru_maxrss` what a process was before it became another program.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("Linux does not tell the peak resident memory")


# A small process between: what it takes before the command starts counts into the command's peak.
_LAUNCHER = """
import json, os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
errors = process.stderr.read()
_, status, usage = os.wait4(process.pid, 0)
seconds = time.perf_counter() - start
code = os.waitstatus_to_exitcode(status)
print(json.dumps([code, seconds, usage.ru_maxrss * 1024, errors.decode()[-300:]]))
"""


def run_harmless(*arguments: str | Path) -> tuple[float, int]:
    """Run the command; return its seconds and its peak resident memory in bytes.

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    command = [sys.executable, "-m", "harmless_runtime", *arguments]
    launch = [sys.executable, "-S", "-c", _LAUNCHER, *command]
    told = subprocess.run(launch, check=True, capture_output=True, text=True).stdout
    code, seconds, peak, errors = json.loads(told)
    if code:
        raise RuntimeError(f"harmless {arguments[0]} ended with exit code {code}: {errors}")
    return seconds, peak


def describe_machine(provider: str) -> dict[str, Any]:
    """Say what the figures were measured on, and with which versions."""
    machine: dict[str, Any] = {
        "cpu": _cpu_name(),
        "cpus": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    if provider == "cuda":
        machine["gpu"] = _gpu_name()
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return machine | {"versions": versions}


def _gpu_name() -> str:
    """Name the GPU and its driver; without nvidia-smi, as PyTorch names it, if that has CUDA."""
    query = ["nvidia-smi", "--id=0", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        import torch

        if not torch.cuda.is_available():
            return "a GPU that neither nvidia-smi nor PyTorch can name"
        return torch.cuda.get_device_name(0)
    return str(told).strip()


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

"""Run each measurement in a fresh process, without threads, caches or memory of another."""

import json
import multiprocessing
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from harmless_runtime import __version__
from harmless_runtime.errors import one_line
from harmless_runtime.model.processor import this_processor

PACKAGES = (
    "harmless-scorer", "numpy", "onnxruntime", "onnxruntime-ep-openvino", "onnxruntime-gpu",
    "openvino", "optimum", "optimum-intel", "optimum-onnx", "sentence-transformers", "tokenizers",
    "torch", "transformers",
)  # fmt: skip


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Outcome(Generic[T_co]):
    """What became of a measurement: its figures, or why there are none.

    Attributes:
        missing: the package that is not installed, if one is.
        failed: why it failed otherwise.
        peak_gb: the process's peak resident memory.
    """

    value: T_co | None = None
    missing: str = ""
    failed: str = ""
    peak_gb: float = 0.0

    @property
    def why(self) -> str:
        """Why there are no figures; empty if there are."""
        return self.missing or self.failed

    @property
    def figures(self) -> T_co:
        """What the function returned. Only a measurement that did not fail has figures."""
        assert not self.why, self.why
        return cast("T_co", self.value)

    def as_result(self, name: str) -> dict[str, Any]:
        """Return the failure as an entry of a result file."""
        return {"name": name} | (
            {"missing": self.missing} if self.missing else {"failed": self.failed}
        )


def in_a_process(
    function: Callable[..., T], *args: object, timeout: float | None = None
) -> Outcome[T]:
    """Call a function in a fresh process, and return what became of it.

    Args:
        function: what to call. It has to be importable.
        args: its arguments.
        timeout: seconds after which the process is killed.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, function, *args))
    process.start()
    sender.close()
    try:
        if not receiver.poll(timeout):
            return Outcome(failed=f"not done after {timeout:.0f} s")
        outcome: Outcome[T] = receiver.recv()
        return outcome
    except EOFError:  # the process was killed, for its memory perhaps
        process.join()
        return Outcome(failed=f"its process ended with exit code {process.exitcode}")
    finally:
        process.kill()
        process.join()


def _send(sender: Connection, function: Callable[..., T], *args: object) -> None:
    sender.send(_call(function, *args))


def _call(function: Callable[..., T], *args: object) -> Outcome[T]:
    try:
        value = function(*args)
    except ImportError as error:
        return Outcome(missing=str(error))
    except Exception as error:
        return Outcome(failed=f"{type(error).__name__}: {one_line(error)}"[:300])
    return Outcome(value, peak_gb=round(_own_peak() / 1e9, 2))


def _own_peak() -> int:
    """Return this process's peak resident memory in bytes.

    This is not `ru_maxrss`, which on Linux includes the memory of the parent process that it was
    forked from.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("Linux does not tell the peak resident memory")


# Starts the command from a small process, whose own memory counts into the command's peak.
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
        RuntimeError: it failed. The message has the end of its output.
    """
    return run_python("-m", "harmless_runtime", *arguments)


def run_python(*arguments: str | Path) -> tuple[float, int]:
    """Run Python; return its seconds and its peak resident memory in bytes.

    Raises:
        RuntimeError: it failed. The message has the end of its output.
    """
    launch = [sys.executable, "-S", "-c", _LAUNCHER, sys.executable, *arguments]
    told = subprocess.run(launch, check=True, capture_output=True, text=True).stdout
    code, seconds, peak, errors = json.loads(told)
    if code:
        command = " ".join(map(str, arguments[:3]))
        raise RuntimeError(f"{command} ended with exit code {code}: {errors}")
    return seconds, peak


def describe_machine(provider: str) -> dict[str, Any]:
    """Return what the figures are measured on, and the versions of the packages."""
    machine: dict[str, Any] = {
        "cpu": str(this_processor()),
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
    # The metadata of an editable installation may be older than the code.
    return machine | {"versions": versions | {"harmless-scorer": __version__}}


def _gpu_name() -> str:
    """Return the name of the GPU and its driver. Without nvidia-smi it is PyTorch's name for it."""
    query = ["nvidia-smi", "--id=0", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        import torch

        if not torch.cuda.is_available():
            return "a GPU that neither nvidia-smi nor PyTorch can name"
        return torch.cuda.get_device_name(0)
    return str(told).strip()

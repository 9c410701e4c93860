"""Count the processor cores that a session may use."""

import math
import os
from pathlib import Path


def usable_cores() -> int:
    """Return the number of processor cores that this process may use.

    Hyper-threads of one core count once, because a matrix product gains nothing from a second
    thread on a core. ONNX Runtime itself counts all cores of the host, even if a container may use
    only some of them. OMP_NUM_THREADS is a limit here as it is for PyTorch: Ray and batch systems
    set it to the cores that they give to a process.
    """
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    cores = len({_siblings(cpu) for cpu in allowed}) or os.cpu_count() or 1
    return math.ceil(min(cores, _cpu_quota(), _thread_limit()))


def _thread_limit() -> float:
    """Return the number in OMP_NUM_THREADS, or infinity. It may be a list, one for each level."""
    first, _, _ = os.environ.get("OMP_NUM_THREADS", "").partition(",")
    return int(first) if first.strip().isdecimal() and int(first) > 0 else math.inf


def _siblings(cpu: int) -> str:
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return path.read_text()
    except OSError:
        return str(cpu)


def _cpu_quota(root: Path = Path("/sys/fs/cgroup")) -> float:
    """Return how many processors' worth of time Linux gives this container, or infinity."""
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

"""Tell how much memory this process may use."""

from pathlib import Path


def usable_memory(
    root: Path = Path("/sys/fs/cgroup"), meminfo: Path = Path("/proc/meminfo")
) -> tuple[int, int] | None:
    """Return the bytes of memory that are there and that are free, or None if Linux does not tell.

    A container may have less than its machine. What files take in memory counts as free.
    """
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        total, free = (int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError, ValueError, IndexError):
        return None
    limit = _number(root / "memory.max") or _number(root / "memory/memory.limit_in_bytes")
    used = _number(root / "memory.current") or _number(root / "memory/memory.usage_in_bytes")
    if limit is not None and limit < total:
        total = limit
        free = min(free, limit - min(used or 0, limit))
    return total, free


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no control groups, or a limit of `max`
        return None

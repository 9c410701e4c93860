"""Recognise a file that has changed, or that another file has taken the name of."""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# File systems that may give a file another number whenever they look at it.
_NUMBERS_CHANGE = ("fuse", "vfat", "msdos", "exfat", "cifs", "smb3", "9p", "v9fs", "vboxsf")


@dataclass(frozen=True, slots=True)
class FileVersion:
    """What changes if a file does.

    Attributes:
        size: bytes.
        changed: the time of its last change, in nanoseconds since 1970.
        number: of the device and of the file there, which are equal on this machine alone. None if
            its file system does not keep them.
    """

    size: int
    changed: int
    number: tuple[int, int] | None

    def has_changed(self, now: "FileVersion", *, on_other_machine: bool = False) -> bool:
        """Return whether the file has changed, by what is seen of it now."""
        same_number = on_other_machine or self.number == now.number
        return not same_number or (self.size, self.changed) != (now.size, now.changed)


def version_of(status: os.stat_result) -> FileVersion:
    """Return the version of a regular file."""
    number = (status.st_dev, status.st_ino) if _keeps_numbers(status.st_dev) else None
    return FileVersion(status.st_size, status.st_mtime_ns, number)


@cache
def _keeps_numbers(device: int) -> bool:
    """Return whether a file system is not one of those whose files' numbers change."""
    name = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    except OSError:  # not Linux
        return True
    # 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
    kinds = [line.partition(" - ")[2] for line in mounts if line.split(" ", 3)[2:3] == [name]]
    return not any(kind.startswith(_NUMBERS_CHANGE) for kind in kinds)

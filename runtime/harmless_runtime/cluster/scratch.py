"""Give workers folders on the disk of their machine, and remove those of workers that died."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harmless_runtime.errors import OutputError
from harmless_runtime.output.locks import held_lock

_PREFIX = "harmless-piece-"
_LOCK = "harmless.lock"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give an empty folder below the temporary one, which is removed at the end of the block."""
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as name:
        folder = Path(name)
        # The lock is let go by the system, too, when a process dies.
        with held_lock(folder / _LOCK):
            yield folder


def remove_left_behind() -> None:
    """Remove the folders of processes that died. Those that others use now are locked."""
    for lock in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_LOCK}"):
        with suppress(OSError, OutputError):
            if lock.stat().st_size == 0:
                with held_lock(lock):
                    shutil.rmtree(lock.parent)

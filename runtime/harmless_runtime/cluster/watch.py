"""Notice that a Ray has ended, or that it has no machine for a worker.

Ray itself says neither: what was asked of a worker that no machine can hold waits for ever.
"""

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from harmless_runtime.errors import SessionError

logger = logging.getLogger(__name__)

# The processes without which a Ray cannot go on, as the system names them.
_NEEDED = ("gcs_server", "raylet")


def started_here() -> frozenset[int]:
    """Return the processes of a Ray that this process has started, and needs.

    Where the system has no `/proc`, they are not known, and nothing is returned.

    Raises:
        SessionError: one of them has ended already.
    """
    if not Path("/proc/self/stat").exists():
        return frozenset()
    numbers = (int(path.name) for path in Path("/proc").glob("[0-9]*"))
    found = {pid: name for pid in numbers for name in _name_of_child(pid)}
    needed = frozenset(pid for pid, name in found.items() if name in _NEEDED)
    if len(needed) < len(_NEEDED):
        raise _ended()
    return needed


def _name_of_child(pid: int) -> Iterator[str]:
    """Yield the name of a process, if this one has started it and it still runs."""
    with suppress(OSError):  # it has ended, and is gone
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        name, _, rest = text.partition(" (")[2].rpartition(") ")
        state, parent, *_ = rest.split()
        if int(parent) == os.getpid() and state not in "ZX":
            yield name


def _ended() -> SessionError:
    return SessionError("the Ray of this run has ended", "`resume` goes on")


class Watch:
    """Looks after a Ray while workers are waited for.

    Args:
        ray: the module, connected.
        started: the processes of a Ray that this process has started, as `started_here` gives
            them. None for one that was joined, which may get machines at any time.
        options: of the actors, as `workers_of` gives them.
        patience: seconds without a worker before a warning says why, and between two warnings.
    """

    def __init__(
        self,
        ray: Any,
        started: frozenset[int] | None,
        options: Mapping[str, Any],
        patience: float = 60.0,
    ) -> None:
        self._ray = ray
        self._patience = patience
        self._started = started
        self._needs = {"CPU": options["num_cpus"], "GPU": options.get("num_gpus", 0)}
        # Since when no worker has been there, and when the last warning said so.
        self._since = self._warned = time.monotonic()

    def look(self, *, has_workers: bool) -> None:
        """See whether the Ray is still there, and say so if it has no machine for a worker.

        Args:
            has_workers: whether a worker has loaded the model, and lives as far as is known.

        Raises:
            SessionError: the Ray was started by this process, and has ended.
        """
        now = time.monotonic()
        if self._started is not None:
            if not all(any(_name_of_child(pid)) for pid in self._started):
                raise _ended()
        elif has_workers:
            self._since = self._warned = now
        elif now - self._warned >= self._patience:
            self._warned = now
            if not any(map(self._could_hold, self._ray.nodes())):
                logger.warning(
                    "for %.0f s no worker has been there, and no machine of the Ray could hold "
                    "one, which needs %s: the run waits for a machine",
                    now - self._since,
                    " and ".join(f"{count} {name}" for name, count in self._needs.items() if count),
                )

    def _could_hold(self, node: Mapping[str, Any]) -> bool:
        has = node["Resources"]
        return node["Alive"] and all(has.get(name, 0) >= n for name, n in self._needs.items())

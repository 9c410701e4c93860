"""Connect to a Ray, or start one, and say which workers it can hold."""

import logging
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harmless_runtime.cluster.watch import started_here
from harmless_runtime.config import ScorerConfig
from harmless_runtime.errors import ConfigError, SessionError, one_line

# Ray itself tries for a minute to reach an address where nothing is, and for ever to join what is
# no Ray.
_CONNECT_SECONDS = 5
_JOIN_SECONDS = 60
_FEWER = "lower `workers`, or leave it out"
_AT = (
    "ray start --head starts a Ray and prints its address; for one that wants a token, set "
    "RAY_AUTH_MODE=token"
)


@dataclass(frozen=True)
class Resources:
    """What a run may use.

    Attributes:
        workers: number of processes that score. None means one for each GPU, or without GPUs one
            for each machine.
        address: of a Ray that is running. None means one on this machine, for this run alone.
    """

    workers: int | None = None
    address: str | None = None


@dataclass(frozen=True)
class Connection:
    """A Ray that this process is connected to.

    Attributes:
        ray: the module.
        leave: ends the thread that has started or joined it, with which its processes end. None if
            the process was connected already.
        started: the processes of a Ray that was started here. None if it is another one.
    """

    ray: Any
    leave: threading.Event | None
    started: frozenset[int] | None = None

    def close(self) -> None:
        """Leave the Ray, which ends if it was started here. One of the caller's is kept."""
        if self.leave is not None:
            self.ray.shutdown()
            self.leave.set()


def connect(address: str | None) -> Connection:
    """Connect to a Ray, or start one that no other machine reaches.

    Args:
        address: as in `Resources`.

    Raises:
        ConfigError: ray is missing.
        SessionError: there is no Ray at the address, or none can be started, or it has ended.
    """
    if address is not None and address.startswith("ray://"):
        raise ConfigError(
            "a client of Ray is not one of its machines, which the run has to be on",
            "on a machine of the cluster, `address` is auto",
        )
    if find_spec("ray") is None:
        raise ConfigError(
            "several machines need the package ray", "pip install '.[ray]' in the project's folder"
        )
    # Both are read when ray is imported. It sends reports on its use otherwise. And a Ray for one
    # run would listen where other machines reach it, if it were not told that this system can have
    # no cluster.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address is None:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    import ray

    if ray.is_initialized():
        return Connection(ray, None)
    logging.getLogger("ray").setLevel(logging.ERROR)
    how: dict[str, Any] = {"configure_logging": False, "log_to_driver": False}
    if address is None:
        how |= {"address": "local", "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    else:
        _check_address(address)
        how["address"] = address
    try:
        leave = _start(ray, how)
    except TimeoutError:
        raise SessionError(
            f"no Ray has let this command in at {address} within {_JOIN_SECONDS} seconds", _AT
        ) from None
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        hint = None if address is None else _AT
        raise SessionError(f"cannot use Ray: {one_line(error)}", hint) from error
    try:
        return Connection(ray, leave, started_here() if address is None else None)
    except BaseException:
        Connection(ray, leave).close()
        raise


def _start(ray: Any, how: Mapping[str, Any]) -> threading.Event:
    """Start or join a Ray in a thread of its own; return what ends the thread.

    No handler of a signal raises an exception in it. Ray would crash at the end of a process in
    which one has ended `ray.init`. And Ray does not replace the handler of SIGTERM there.

    Raises:
        TimeoutError: no Ray was joined in time.
    """
    started: Future[Any] = Future()
    leave = threading.Event()

    def start() -> None:
        try:
            started.set_result(ray.init(**how))
        except BaseException as error:
            started.set_exception(error)
        else:
            leave.wait()

    threading.Thread(target=start, name="ray", daemon=True).start()
    is_own = how["address"] == "local"
    try:
        started.result(None if is_own else _JOIN_SECONDS)
    except BaseException:
        # A Ray of this command's own is there within seconds, and has to be ended.
        with suppress(Exception):
            started.result(None if is_own else 0)
            ray.shutdown()
        leave.set()
        raise
    if threading.current_thread() is threading.main_thread():
        # Ray's native code has put a handler before Python's, which prints a stack.
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
    return leave


def _check_address(address: str) -> None:
    """Raise SessionError if nothing answers at an address, and ConfigError if it is none."""
    if address == "auto":
        # Ray looks there, too.
        last = Path(tempfile.gettempdir(), "ray/ray_current_cluster")
        address = os.environ.get("RAY_ADDRESS") or (last.read_text() if last.exists() else "")
        if not address:
            raise SessionError("no Ray runs on this machine", _AT)
    try:
        place = urlsplit(address if "://" in address else f"//{address}")
        where = place.hostname, place.port
    except ValueError:
        where = None, None
    if None in where:
        raise ConfigError(f"{address} is not the address of a Ray", "it is auto, or HOST:PORT")
    try:
        socket.create_connection(where, _CONNECT_SECONDS).close()
    except OSError as error:
        raise SessionError(f"no Ray answers at {address}: {one_line(error)}", _AT) from error


def workers_of(
    ray: Any, config: ScorerConfig, resources: Resources, pieces: int
) -> tuple[dict[str, Any], int]:
    """Return the options of the actors that score, and their number.

    Args:
        ray: the module, connected.
        config: the settings.
        resources: what was asked for.
        pieces: number of pieces. More workers are of no use.

    Raises:
        ConfigError: Ray has less than what is asked for.
    """
    have = ray.cluster_resources()
    gpus, cpus = int(have.get("GPU", 0)), int(have.get("CPU", 1))
    nodes = sum(node["Alive"] for node in ray.nodes())
    on_gpu = config.provider == "cuda" or (config.provider == "auto" and gpus > 0)
    workers = resources.workers or (gpus if on_gpu else nodes)
    if on_gpu and not gpus:
        raise ConfigError(
            "Ray has no GPU", "without `provider` and `device`, workers score on processor cores"
        )
    if on_gpu and workers > gpus:
        raise ConfigError(f"{workers} workers are asked for, and Ray has {gpus} GPUs", _FEWER)
    if workers > cpus:
        raise ConfigError(
            f"{workers} workers are asked for, and Ray has {cpus} processor cores", _FEWER
        )
    # The second thread of a worker tells how far the first one is.
    options: dict[str, Any] = {"max_restarts": 0, "max_task_retries": 0, "max_concurrency": 2}
    options["scheduling_strategy"] = "SPREAD"
    options["num_cpus"] = max(1, cpus // workers)
    if on_gpu:
        options["num_gpus"] = 1
        options["num_cpus"] = max(1, min(4, cpus // workers))
    return options, max(1, min(workers, pieces))

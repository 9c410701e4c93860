"""Keep workers in the actors of a Ray, and replace those that die."""

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harmless_runtime.choices import Precision, Provider
from harmless_runtime.cluster.manifest import Attempt
from harmless_runtime.cluster.worker import Task, Worker
from harmless_runtime.config import ScorerConfig
from harmless_runtime.errors import ConfigError, HarmlessError, OutputError, SessionError, one_line

logger = logging.getLogger(__name__)

# Seconds between two looks at workers that are started.
_WAIT = 1.0
# The run ends when so many workers have died while they loaded the model.
_DEATHS = 5


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
class Model:
    """What the workers have loaded. The fields are those of `Worker.load`."""

    fingerprint: Mapping[str, Any]
    about: Mapping[str, Any]
    provider: Provider
    precision: Precision


class Pool:
    """Workers of which each scores a piece at a time.

    Args:
        config: the settings of the workers.
        resources: which Ray, and how many workers.
        pieces: number of pieces. More workers than pieces are of no use.

    Attributes:
        model: what the first worker has loaded.

    Raises:
        ConfigError: ray is missing, or as `Worker.load`.
        SessionError: no worker can be started.
    """

    def __init__(self, config: ScorerConfig, resources: Resources, pieces: int) -> None:
        if find_spec("ray") is None:
            raise ConfigError(
                "several machines need the package ray",
                "pip install '.[ray]' in the project's folder",
            )
        # Both are read when ray is imported. It sends reports on its use otherwise. And a Ray for
        # one run would listen where other machines reach it, if it were not told that this system
        # can have no cluster.
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        if resources.address is None:
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        import ray

        self._ray = ray
        self._config = config
        self._owns_ray = resources.address is None and not ray.is_initialized()
        if not ray.is_initialized():
            _start(ray, resources.address)
        self._options, self._size = _actors(ray, config, resources, pieces)
        # Workers that load the model, and those that have loaded it.
        self._loading: dict[Any, Any] = {}
        self._idle: list[Any] = []
        self._running: dict[Any, tuple[Any, Task]] = {}
        self._deaths = 0
        self.model = self._first_model()

    def _first_model(self) -> Model:
        try:
            for _ in range(self._size):
                self._hire()
            while True:
                for promise in self._ready():
                    model = self._loaded(promise)
                    if model is not None:
                        return model
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def _hire(self) -> None:
        make = self._ray.remote(Worker).options(**self._options)
        actor = make.remote(self._config, str(Path.cwd()))
        self._loading[actor.load.remote()] = actor

    def _ready(self) -> list[Any]:
        """Wait a second at most for a worker that has loaded the model, or scored a piece."""
        promises = [*self._loading, *self._running]
        ready: list[Any] = self._ray.wait(promises, timeout=_WAIT)[0] if promises else []
        return ready

    def _loaded(self, promise: Any) -> Model | None:
        """Return what a worker has loaded, which waits for a piece then, or None if it died.

        Raises:
            HarmlessError: the model cannot be loaded.
            SessionError: too many workers died.
        """
        errors = self._ray.exceptions
        actor = self._loading.pop(promise)
        try:
            model = Model(*self._ray.get(promise))
        except errors.RayTaskError as error:
            if isinstance(error.cause, HarmlessError):
                raise error.cause from None
            raise SessionError(f"a worker failed: {one_line(error)}") from error
        except errors.RayError as error:
            self._deaths += 1
            if self._deaths >= _DEATHS:
                raise SessionError(f"workers die: {one_line(error)}") from error
            self._hire()
            return None
        self._idle.append(actor)
        return model

    @property
    def is_busy(self) -> bool:
        """Whether a piece is being scored."""
        return bool(self._running)

    @property
    def has_room(self) -> bool:
        """Whether a worker waits for a piece."""
        return bool(self._idle)

    def start(self, task: Task) -> None:
        """Let an idle worker score a piece."""
        actor = self._idle.pop()
        self._running[actor.score.remote(task)] = actor, task

    def wait(self) -> Iterator[tuple[Task, Attempt | str]]:
        """Wait a second at most; yield pieces that are done, with their results or what failed.

        Raises:
            OutputError: a worker's model is another one than the first worker's.
        """
        for promise in self._ready():
            if promise in self._running:
                yield self._outcome(promise)
                continue
            loaded = self._loaded(promise)
            if loaded is not None and dict(loaded.fingerprint) != dict(self.model.fingerprint):
                raise OutputError(
                    "the workers' models or devices differ, so that equal rows could get other "
                    "scores",
                    "`provider` and `model` say what all of them use",
                )

    def _outcome(self, promise: Any) -> tuple[Task, Attempt | str]:
        """Return a piece, with its results or what failed. A worker that died is replaced."""
        errors = self._ray.exceptions
        actor, task = self._running.pop(promise)
        try:
            attempt: Attempt = self._ray.get(promise)
        except errors.RayTaskError as error:  # the worker itself goes on
            self._idle.append(actor)
            return task, one_line(error.cause or error)
        except errors.RayError as error:
            self._hire()
            return task, f"its worker died ({type(error).__name__})"
        self._idle.append(actor)
        return task, attempt

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: object, trace: TracebackType | None
    ) -> None:
        busy = [actor for actor, _ in self._running.values()]
        for actor in [*self._idle, *self._loading.values(), *busy]:
            self._ray.kill(actor)
        self._idle, self._loading, self._running = [], {}, {}
        if self._owns_ray:
            self._ray.shutdown()


def _start(ray: Any, address: str | None) -> None:
    """Connect to a Ray, or start one that no other machine reaches."""
    logging.getLogger("ray").setLevel(logging.WARNING)
    how = {"configure_logging": False, "log_to_driver": False}
    try:
        if address is not None:
            ray.init(address=address, **how)
        else:
            ray.init(address="local", include_dashboard=False, _node_ip_address="127.0.0.1", **how)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise SessionError(f"cannot use Ray: {one_line(error)}") from error


def _actors(
    ray: Any, config: ScorerConfig, resources: Resources, pieces: int
) -> tuple[dict[str, Any], int]:
    """Return what each worker gets, and the number of workers."""
    have = ray.cluster_resources()
    gpus, cpus = int(have.get("GPU", 0)), int(have.get("CPU", 1))
    nodes = sum(node["Alive"] for node in ray.nodes())
    on_gpu = config.provider == "cuda" or (config.provider == "auto" and gpus > 0)
    workers = resources.workers or (gpus if on_gpu else nodes)
    if on_gpu and workers > gpus:
        raise ConfigError(f"{workers} workers are asked for, and Ray has {gpus} GPUs")
    if workers > cpus:
        raise ConfigError(f"{workers} workers are asked for, and Ray has {cpus} processor cores")
    options: dict[str, Any] = {"max_restarts": 0, "max_task_retries": 0}
    options["scheduling_strategy"] = "SPREAD"
    options["num_cpus"] = max(1, cpus // workers)
    if on_gpu:
        options["num_gpus"] = 1
        options["num_cpus"] = max(1, min(4, cpus // workers))
    return options, max(1, min(workers, pieces))

"""Keep workers in the actors of a Ray, and replace those that die."""

import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self

from harmless_runtime.cluster.connection import Resources, connect, workers_of
from harmless_runtime.cluster.watch import Watch
from harmless_runtime.cluster.worker import (
    LoadEngine,
    Model,
    Worker,
    load_for_many_rows,
)
from harmless_runtime.config import ScorerConfig
from harmless_runtime.errors import HarmlessError, OutputError, SessionError, one_line
from harmless_runtime.tally import Tally

logger = logging.getLogger(__name__)

# Seconds between two looks at workers that are started.
_WAIT = 1.0
# The run ends when so many workers have died while they loaded the model.
_DEATHS = 5
# Most answers in a second of workers that are asked how far they are.
_ANSWERS = 200


class Work(Protocol):
    """What a worker can do: `method` is that of `Worker`, which gets it.

    `is_certain` says that it fails alike in every worker, if it fails.
    """

    method: ClassVar[str]
    is_certain: ClassVar[bool]

    @property
    def number(self) -> int:
        """Its number among others."""
        ...


@dataclass(frozen=True)
class Failed:
    """Why something was not done."""

    reason: str


class Pool:
    """Workers of which each scores a piece at a time.

    Args:
        config: the settings of the workers.
        resources: which Ray, and how many workers.
        pieces: number of pieces. More workers than pieces are of no use.
        load_engine: what loads the model in each worker.

    Attributes:
        model: what the first worker has loaded.
        asked: number of workers that were asked for, if any was.

    Raises:
        ConfigError: ray is missing, or as `Worker.load`.
        SessionError: no worker can be started, or the Ray has ended.
    """

    def __init__(
        self,
        config: ScorerConfig,
        resources: Resources,
        pieces: int,
        load_engine: LoadEngine = load_for_many_rows,
    ) -> None:
        self.asked = resources.workers
        self._config = config
        self._load_engine = load_engine
        # Workers that load the model, and those that have loaded it.
        self._loading: dict[Any, Any] = {}
        self._idle: list[Any] = []
        self._running: dict[Any, tuple[Any, Work]] = {}
        # What busy workers were asked, and what they have told: how far their pieces are.
        self._asked: dict[Any, Any] = {}
        self._told: dict[Any, Tally] = {}
        self._next_question = 0.0
        self._deaths = 0
        self._connection = connect(resources.address)
        self._ray = self._connection.ray
        try:
            self._options, size = workers_of(self._ray, config, resources, pieces)
            self._watch = Watch(self._ray, self._connection.started, self._options)
            for _ in range(size):
                self._hire()
            self.model = self._first_model()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def _first_model(self) -> Model:
        while True:
            for promise in self._ready():
                model = self._loaded(promise)
                if model is not None:
                    return model

    def _hire(self) -> None:
        make = self._ray.remote(Worker).options(**self._options)
        actor = make.remote(self._config, str(Path.cwd()), self._load_engine)
        self._loading[actor.load.remote()] = actor

    def _ready(self) -> list[Any]:
        """Wait a second at most for a worker; return what all have answered by then.

        Raises:
            SessionError: the Ray has ended.
        """
        self._watch.look(has_workers=bool(self._idle or self._running))
        promises = [*self._loading, *self._running, *self._asked]
        if not promises or not self._ray.wait(promises, timeout=_WAIT)[0]:
            return []
        ready: list[Any] = self._ray.wait(promises, num_returns=len(promises), timeout=0)[0]
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
            model: Model = self._ray.get(promise)
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

    def start(self, work: Work) -> None:
        """Let an idle worker do something."""
        actor = self._idle.pop()
        self._running[getattr(actor, work.method).remote(work)] = actor, work

    def wait(self) -> Iterator[tuple[Work, Any]]:
        """Wait a second at most; yield what is done, with its result, or what failed, with why.

        Raises:
            OutputError: a worker's model is another one than the first worker's.
            SessionError: the Ray has ended.
        """
        self._ask()
        for promise in self._ready():
            if promise in self._asked:
                self._note(promise)
                continue
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

    def _outcome(self, promise: Any) -> tuple[Work, Any]:
        """Return what a worker has done, and its result. A worker that died is replaced."""
        errors = self._ray.exceptions
        actor, work = self._running.pop(promise)
        self._told.pop(actor, None)
        try:
            result = self._ray.get(promise)
        except errors.RayTaskError as error:  # the worker itself goes on
            self._idle.append(actor)
            if work.is_certain and isinstance(error.cause, HarmlessError):
                raise error.cause from None
            return work, Failed(one_line(error.cause or error))
        except errors.RayError as error:
            self._hire()
            return work, Failed(f"its worker died ({type(error).__name__})")
        self._idle.append(actor)
        return work, result

    @property
    def under_way(self) -> list[Tally]:
        """What was done of each piece that is being scored, as the workers have told."""
        return list(self._told.values())

    def _ask(self) -> None:
        """Ask busy workers how far they are."""
        now = time.monotonic()
        if now < self._next_question:
            return
        self._next_question = now + max(_WAIT, len(self._running) / _ANSWERS)
        waiting = set(self._asked.values())
        for actor, _ in self._running.values():
            if actor not in waiting:
                self._asked[actor.progress.remote()] = actor

    def _note(self, promise: Any) -> None:
        actor = self._asked.pop(promise)
        is_busy = any(actor == busy for busy, _ in self._running.values())
        with suppress(self._ray.exceptions.RayError):  # that it died is told by its piece
            tally = self._ray.get(promise)
            if is_busy:
                self._told[actor] = tally

    def dismiss(self) -> None:
        """End all workers, which are not needed any more."""
        busy = [actor for actor, _ in self._running.values()]
        for actor in [*self._idle, *self._loading.values(), *busy]:
            self._ray.kill(actor)
        self._idle, self._loading, self._running, self._asked = [], {}, {}, {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: object, trace: TracebackType | None
    ) -> None:
        self.dismiss()
        self._connection.close()

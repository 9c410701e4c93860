"""Give each process an engine of its own, which it loads when it first needs it."""

import os
from dataclasses import dataclass, field

from harmless_runtime.config import ScorerConfig
from harmless_runtime.errors import SessionError
from harmless_runtime.model.engine import Engine
from harmless_runtime.model.load import load_engine
from harmless_runtime.model.session import keep_for_ever


@dataclass
class OwnEngine:
    """Loads the engine that a configuration asks for, once in every process.

    A process that `fork` made inherits a session whose threads it does not have. A run in that
    session would wait for ever.
    """

    config: ScorerConfig
    _engine: Engine | None = None
    _process: int = field(default_factory=os.getpid)

    def get(self) -> Engine:
        """Return the engine of this process.

        Raises:
            SessionError: the process was forked from one that uses a GPU, or as `load_engine`.
            ConfigError, ArtifactError, CheckpointError, OutputError, ParityError: as `load_engine`.
        """
        if self._engine is not None and self._process != os.getpid():
            inherited = self._engine
            keep_for_ever(inherited)
            provider = inherited.runner.target.provider
            if provider != "cpu":
                raise SessionError(
                    f"this process was forked from one that has loaded the model on "
                    f"{provider}, and cannot use the device",
                    'start it with multiprocessing.set_start_method("spawn"), or load the model '
                    "only after the fork",
                )
            self._engine = None
        if self._engine is None:
            self._engine = load_engine(self.config)
            self._process = os.getpid()
        return self._engine

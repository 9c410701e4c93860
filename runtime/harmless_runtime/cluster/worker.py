"""Score pieces in a process of a cluster: the model is loaded once, and each piece is a run."""

import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from harmless_runtime.choices import Precision, Provider
from harmless_runtime.cluster.manifest import Attempt, versions_of
from harmless_runtime.cluster.scratch import remove_left_behind, scratch_folder
from harmless_runtime.cluster.storage import Storage
from harmless_runtime.config import ScorerConfig
from harmless_runtime.model.engine import Engine
from harmless_runtime.model.load import load_engine
from harmless_runtime.output import disk
from harmless_runtime.output.paths import OutputPaths
from harmless_runtime.output.state import EMPTY, Claim
from harmless_runtime.pipeline import about_engine, score_files
from harmless_runtime.rows.inputs import Inputs
from harmless_runtime.rows.pieces import Piece
from harmless_runtime.rows.shapes import Reading, Shape
from harmless_runtime.run import Run
from harmless_runtime.scores.record import read_record
from harmless_runtime.tally import Tally

LoadEngine = Callable[[ScorerConfig], Engine]


@dataclass(frozen=True)
class Task:
    """A piece that is to be scored.

    Attributes:
        number: of the piece.
        piece: its inputs, as they were when the run was planned.
        reading: how rows are read.
        shape: the shape of the rows.
        details: as in `Run`.
        storage: where the results are put.
        attempt: the name of the attempt, which no other one has.
        tries: how often the piece is tried now.
    """

    method: ClassVar[str] = "score"
    is_certain: ClassVar[bool] = False

    number: int
    piece: Piece
    reading: Reading
    shape: Shape
    details: bool
    storage: Storage
    attempt: str
    tries: int


@dataclass(frozen=True)
class Model:
    """What a worker has loaded.

    Attributes:
        fingerprint: what decides its scores, as `Engine.fingerprint` gives it.
        about: facts for the record of the run.
        provider: the execution provider.
        precision: what the scores are computed in.
        piece_bytes: as in `Limits`.
    """

    fingerprint: Mapping[str, Any]
    about: Mapping[str, Any]
    provider: Provider
    precision: Precision
    piece_bytes: int


def load_for_many_rows(config: ScorerConfig) -> Engine:
    """Load the engine that workers score with, if nothing else is asked for."""
    return load_engine(config, for_many_rows=True)


class Maker(Protocol):
    """Something that makes files, such as `making.MakeTask`."""

    def make(self) -> list[Claim]:
        """Make them; return what is in them."""
        ...


class Worker:
    """Holds a model, and scores pieces with it.

    Args:
        config: the settings.
        folder: the current folder of the driver, from which paths are meant.
        load_engine: what loads the model.
    """

    def __init__(self, config: ScorerConfig, folder: str, load_engine: LoadEngine) -> None:
        os.chdir(folder)
        remove_left_behind()
        # Ray shows each worker its own GPU only.
        self._config = config.model_copy(update={"device": 0})
        self._load_engine = load_engine
        self._engine: Engine | None = None
        self._tally = Tally()

    def load(self) -> Model:
        """Load the model.

        Raises:
            ConfigError, ArtifactError, CheckpointError, ParityError, OutputError, SessionError: as
                `load_engine`.
        """
        self._engine = engine = self._load_engine(self._config)
        return Model(
            engine.fingerprint,
            about_engine(engine),
            engine.runner.target.provider,
            engine.precision,
            engine.limits.piece_bytes,
        )

    def progress(self) -> Tally:
        """Return what was done of the piece that is being scored. Another thread asks for it."""
        return self._tally

    def score(self, task: Task) -> Attempt:
        """Score a piece on this machine's own disk, and put its results into the storage.

        Raises:
            InputError: an input has changed since the run was planned, or cannot be read.
            OutputError: the results cannot be written.
            SessionError: ONNX Runtime failed.
        """
        assert self._engine is not None
        start = time.perf_counter()
        self._tally = Tally()
        sources = [source.seen_here() for source in task.piece]
        inputs = Inputs(sources, task.reading, task.shape)
        with (
            scratch_folder() as folder,
            disk.os_errors_named(Path(task.storage.where, task.attempt)),
        ):
            paths = OutputPaths(folder / "scores.jsonl")
            # The piece is not divided again.
            run = Run(inputs, paths.output, details=task.details, piece_bytes=sys.maxsize)
            score_files(run, self._engine, self._note)
            record = read_record(paths.record)
            assert record is not None
            assert record.digest is not None
            claims = {file.name: Claim(file.size, file.sha256) for file in record.files}
            scores = claims[paths.output.name]
            rejects = claims.get(paths.rejects.final.name, EMPTY)
            for file, name, claim in (
                (paths.output, "scores.jsonl", scores),
                (paths.rejects.final, "rejects.jsonl", rejects),
            ):
                if claim.size:
                    task.storage.put(file, task.attempt, name)
        return Attempt(
            piece=task.number,
            name=task.attempt,
            versions=versions_of(inputs.sources),
            rows=record.lines,
            digest=record.digest,
            lines=inputs.lines_read,
            scores=scores,
            rejects=rejects,
            tally=Tally(**record.counts),
            node=socket.gethostname(),
            seconds=time.perf_counter() - start,
            tries=task.tries,
            counts=[count or 0 for count in inputs.counts],
        )

    def make(self, maker: Maker) -> list[Claim]:
        """Make files of rows and their scores.

        Raises:
            HarmlessError: as `MakeTask.make`.
        """
        self._tally = Tally()
        return maker.make()

    def _note(self, tally: Tally) -> None:
        self._tally = tally

"""Score pieces in a process of a cluster: the model is loaded once, and each piece is a run."""

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harmless_runtime.cluster.manifest import Attempt
from harmless_runtime.config import ScorerConfig
from harmless_runtime.errors import InputError
from harmless_runtime.model.engine import Engine
from harmless_runtime.model.load import load_engine
from harmless_runtime.output import disk
from harmless_runtime.output.paths import OutputPaths
from harmless_runtime.output.state import EMPTY, Claim
from harmless_runtime.pipeline import about_engine, score_files
from harmless_runtime.rows.inputs import Inputs
from harmless_runtime.rows.shapes import Reading, Shape
from harmless_runtime.rows.sources import Source
from harmless_runtime.run import Run
from harmless_runtime.scores.record import read_record


@dataclass(frozen=True)
class Task:
    """A piece that is to be scored.

    Attributes:
        piece: its number.
        sources: its inputs, as they were when the run was planned.
        reading: how rows are read.
        shape: the shape of the rows.
        details: as in `Run`.
        folder: the folder of the pieces, on storage that all machines reach.
        attempt: the name of the attempt's folder in it, which no other attempt has.
        tries: how often the piece is tried now.
    """

    piece: int
    sources: tuple[Source, ...]
    reading: Reading
    shape: Shape
    details: bool
    folder: Path
    attempt: str
    tries: int


class Worker:
    """Holds a model, and scores pieces with it.

    Args:
        config: the settings.
        folder: the current folder of the driver, from which paths are meant.
    """

    def __init__(self, config: ScorerConfig, folder: str) -> None:
        os.chdir(folder)
        self._config = config
        self._engine: Engine | None = None

    def load(self) -> tuple[Mapping[str, Any], Mapping[str, Any], str, str]:
        """Load the model.

        Returns:
            What decides its scores; facts for the record of the run; the provider; the precision.

        Raises:
            ConfigError, ArtifactError, CheckpointError, ParityError, OutputError, SessionError: as
                `load_engine`.
        """
        self._engine = engine = load_engine(self._config, for_many_rows=True)
        return (
            engine.fingerprint,
            about_engine(engine),
            engine.runner.target.provider,
            engine.precision,
        )

    def score(self, task: Task) -> Attempt:
        """Score a piece on this machine's own disk, and put its results into the shared folder.

        Raises:
            InputError: an input has changed since the run was planned, or cannot be read.
            OutputError: the results cannot be written.
            SessionError: ONNX Runtime failed.
        """
        assert self._engine is not None
        start = time.perf_counter()
        inputs = Inputs(task.sources, task.reading, task.shape)
        inputs.look_again()
        if [(s, s.changed) for s in inputs.sources] != [(s, s.changed) for s in task.sources]:
            raise InputError(f"the inputs of piece {task.piece} have changed since the run began")
        with tempfile.TemporaryDirectory() as folder:
            paths = OutputPaths(Path(folder, "scores.jsonl"))
            score_files(Run(inputs, paths.output, details=task.details), self._engine)
            record = read_record(paths.record)
            assert record is not None
            attempt = task.folder / task.attempt
            attempt.mkdir(parents=True)
            claims = {file.name: Claim(file.size, file.sha256) for file in record.files}
            for made, name in (
                (paths.output, "scores.jsonl"),
                (paths.rejects.final, "rejects.jsonl"),
            ):
                _publish(made, attempt / name)
            disk.sync_folder(attempt)
        return Attempt(
            task.piece,
            task.attempt,
            record.lines,
            record.digest,
            claims[paths.output.name],
            claims.get(paths.rejects.final.name, EMPTY),
            record.counts,
            socket.gethostname(),
            time.perf_counter() - start,
            task.tries,
        )


def _publish(made: Path, target: Path) -> None:
    """Copy a file to shared storage, or make an empty one if there is none."""
    if not made.exists():
        target.touch()
        return
    shutil.copyfile(made, target)
    with target.open("rb+") as file:
        disk.sync(file)

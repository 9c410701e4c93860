"""Score pieces in a process of a cluster: the model is loaded once, and each piece is a run."""

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harmless_runtime.cluster.manifest import Attempt
from harmless_runtime.config import ScorerConfig
from harmless_runtime.errors import InputError
from harmless_runtime.model.engine import Engine
from harmless_runtime.model.load import load_engine
from harmless_runtime.output import disk
from harmless_runtime.output.paths import rejects_path
from harmless_runtime.output.state import EMPTY, Claim
from harmless_runtime.pipeline import about_engine, score_files
from harmless_runtime.rows.inputs import Inputs
from harmless_runtime.rows.shapes import Reading, Shape
from harmless_runtime.rows.sources import Source
from harmless_runtime.run import Run
from harmless_runtime.scores.earlier import files_beside
from harmless_runtime.scores.record import hash_of, read_record


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
            output = Path(folder, "scores.jsonl")
            summary = score_files(Run(inputs, output, details=task.details), self._engine)
            attempt = task.folder / task.attempt
            attempt.mkdir(parents=True)
            scores = _publish(output, attempt / "scores.jsonl")
            rejects = _publish(rejects_path(output), attempt / "rejects.jsonl")
            disk.sync_folder(attempt)
            record = read_record(files_beside(output)[1])
        assert record is not None
        tally = summary.tally
        return Attempt(
            task.piece,
            task.attempt,
            record.lines,
            record.digest,
            scores,
            rejects,
            asdict(tally),
            socket.gethostname(),
            time.perf_counter() - start,
            task.tries,
        )


def _publish(made: Path, target: Path) -> Claim:
    """Copy a file to shared storage, or make an empty one for none; return what it holds."""
    if not made.exists():
        target.touch()
        return EMPTY
    shutil.copyfile(made, target)
    with target.open("rb+") as file:
        disk.sync(file)
    return Claim(made.stat().st_size, hash_of(made))

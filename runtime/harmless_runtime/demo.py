"""Score the bundled rows with the bundled model."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec

from harmless_runtime import bundled
from harmless_runtime.config import make_config
from harmless_runtime.model.load import load_engine
from harmless_runtime.pipeline import score_files
from harmless_runtime.rows.inputs import open_inputs
from harmless_runtime.run import Run
from harmless_runtime.tally import Summary


@dataclass(frozen=True)
class DemoRow:
    """A bundled row and its score."""

    id: str
    score: float
    instruction: str
    output: str


def run_demo() -> tuple[list[DemoRow], Summary]:
    """Score the bundled rows on the CPU, by the same path as `harmless score`.

    Returns:
        The rows, highest score first, and the run's summary.
    """
    engine = load_engine(make_config({"model": bundled.MODEL_NAME, "provider": "cpu"}))
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "scores.jsonl")
        summary = score_files(Run(open_inputs([str(bundled.ROWS)]), output), engine)
        scored = [msgspec.json.decode(line) for line in output.read_bytes().splitlines()]
    lines = bundled.ROWS.read_bytes().splitlines()
    given = [msgspec.json.decode(line) for line in lines]
    rows = [
        DemoRow(str(line["id"]), line["score"], row["instruction"], row["output"])
        for line, row in zip(scored, given, strict=True)
    ]
    return sorted(rows, key=lambda row: -row.score), summary

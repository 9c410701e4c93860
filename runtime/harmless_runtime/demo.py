"""Score bundled pairs of a harmless and a harmful answer with the bundled model."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec

from harmless_runtime import bundled
from harmless_runtime.config import make_config
from harmless_runtime.evaluation import Evaluation, evaluate_pairs
from harmless_runtime.model.load import load_engine
from harmless_runtime.rows.expand import find_sources
from harmless_runtime.rows.inputs import Inputs
from harmless_runtime.rows.records import Pair
from harmless_runtime.rows.shapes import PAIRS, Reading
from harmless_runtime.run import Run


@dataclass(frozen=True)
class ScoredAnswer:
    """An answer to a request, and its score."""

    request: str
    text: str
    score: float


@dataclass(frozen=True)
class Demo:
    """What the bundled model makes of the bundled pairs.

    Attributes:
        pairs: the harmless answer and the harmful one of each pair, in the order of the file.
        evaluation: how often the harmless one scores higher.
        held_out: number of pairs of hh-rlhf that the model was measured on after its training.
        held_out_accuracy: the share of them whose harmless answer scores higher.
    """

    pairs: list[tuple[ScoredAnswer, ScoredAnswer]]
    evaluation: Evaluation
    held_out: int
    held_out_accuracy: float


def run_demo() -> Demo:
    """Score the bundled pairs on the CPU, by the same path as `harmless eval`."""
    engine = load_engine(make_config({"model": bundled.MODEL_NAME, "provider": "cpu"}))
    inputs = Inputs(find_sources([str(bundled.PAIRS)]), Reading(pairs=True), PAIRS[-1])
    with tempfile.TemporaryDirectory() as folder:
        evaluation = evaluate_pairs(Run(inputs, Path(folder, "scores.jsonl"), details=True), engine)
    scores = evaluation.scores
    texts = [item for item in inputs.rows() if isinstance(item, Pair)]
    better = list(map(_answer, texts[::2], scores.chosen.tolist()))
    worse = list(map(_answer, texts[1::2], scores.rejected.tolist()))
    figures = msgspec.json.decode((bundled.MODEL / "training.json").read_bytes())["figures"]
    return Demo(
        list(zip(better, worse, strict=True)),
        evaluation,
        figures["held_out"],
        figures["held_out_accuracy"],
    )


def _answer(item: Pair, score: float) -> ScoredAnswer:
    request = item.question.removeprefix("\n\nHuman:").removesuffix("\n\nAssistant:")
    return ScoredAnswer(request.strip(), item.answer.strip(), score)

"""Evaluate a model on preference pairs: how often does the chosen text score higher?"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmless_runtime.model.engine import Engine
from harmless_runtime.pipeline import score_files
from harmless_runtime.run import Run
from harmless_runtime.scores.preferences import (
    Accuracy,
    Group,
    PairScores,
    accuracy_of,
    by_length,
    by_margin,
    complete_pairs,
    read_pair_scores,
    turned,
)
from harmless_runtime.tally import Summary, Tally


@dataclass(frozen=True)
class Comparison:
    """How another program scores the same pairs.

    Attributes:
        name: of the other program.
        accuracy: by its scores.
        turned: number of pairs that its scores put in another order.
        largest: the largest difference between two scores of a text.
    """

    name: str
    accuracy: Accuracy
    turned: int
    largest: float


@dataclass(frozen=True)
class Evaluation:
    """How a model did on preference pairs.

    Attributes:
        scores: of the pairs whose texts were both scored.
        not_scored: number of pairs of which a text has no score. They count nowhere else.
        summary: of the run that scored them.
        model: the folder of the artifact.
        against: how another program scores the same pairs, if that was asked for.
    """

    scores: PairScores
    not_scored: int
    summary: Summary
    model: str
    against: Comparison | None = None

    @property
    def accuracy(self) -> Accuracy:
        """Over all pairs that were scored."""
        return accuracy_of(self.scores.margins)

    def as_object(self) -> dict[str, Any]:
        """Return everything as an object for JSON, which has null for what is not a number."""
        told: dict[str, Any] = {
            **_object(self.accuracy),
            "not_scored": self.not_scored,
            "by_margin": _objects(by_margin(self.scores)),
            "by_length": _objects(by_length(self.scores)),
            "model": self.model,
            "provider": self.summary.provider,
            "precision": self.summary.precision,
        }
        if self.against is not None:
            other = self.against
            told["against"] = {
                "name": other.name,
                **_object(other.accuracy),
                "turned": other.turned,
                "largest_difference": other.largest,
            }
        return told


def _object(accuracy: Accuracy) -> dict[str, Any]:
    losses = accuracy.pairs - accuracy.wins - accuracy.ties
    numbers = {
        "accuracy": accuracy.accuracy,
        "low": accuracy.low,
        "high": accuracy.high,
        "mean_margin": accuracy.mean_margin,
    }
    return {
        "pairs": accuracy.pairs,
        "wins": accuracy.wins,
        "ties": accuracy.ties,
        "losses": losses,
        **{name: None if math.isnan(number) else number for name, number in numbers.items()},
    }


def _objects(groups: list[Group]) -> list[dict[str, Any]]:
    return [{"name": group.name, **_object(group.accuracy)} for group in groups]


def evaluate_pairs(
    run: Run, engine: Engine, on_progress: Callable[[Tally], None] = lambda _: None
) -> Evaluation:
    """Score preference pairs, and count how often the chosen text scores higher.

    Args:
        run: over inputs that are read as pairs, into a file of JSON lines with details.
        engine: what scores.
        on_progress: as in `score_files`.

    Raises:
        InputError, ShapeError, OutputError, SessionError: as `score_files`.
    """
    summary = score_files(run, engine, on_progress)
    with run.output.open("rb") as lines:
        scores = read_pair_scores(lines)
    # Every row gave two texts, each of which has a score or is a reject.
    rows = (summary.tally.rows + summary.tally.rejected) // 2
    not_scored = rows - len(scores.chosen)
    return Evaluation(scores, not_scored, summary, str(engine.artifact.folder))


def compare_with(
    evaluation: Evaluation,
    run: Run,
    name: str,
    score: Callable[[list[tuple[str, str]]], NDArray[np.float32]],
) -> Comparison:
    """Score the same pairs with another program.

    Args:
        evaluation: what was found.
        run: the run that it came from. Its inputs are read again.
        name: of the other program.
        score: returns the other program's scores of (Q, A) texts, float32 [texts].
    """
    texts = []
    with run.output.open("rb") as lines:
        for pair in complete_pairs(run.inputs.rows(), lines):
            texts += [(item.question, item.answer) for item in pair]
    others = score(texts).astype(np.float64).reshape(-1, 2)
    margins = others[:, 0] - others[:, 1]
    scores = evaluation.scores
    own = np.stack([scores.chosen, scores.rejected], axis=1)
    largest = float(np.abs(own - others).max()) if len(own) else 0.0
    return Comparison(name, accuracy_of(margins), turned(scores.margins, margins), largest)

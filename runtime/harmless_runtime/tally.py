"""Count what a run has done."""

from collections.abc import Callable
from dataclasses import astuple, dataclass, field

import numpy as np
from numpy.typing import NDArray

from harmless_runtime.choices import Precision, Provider


@dataclass(frozen=True)
class Tally:
    """What was done so far.

    Attributes:
        rows: number of rows with a score.
        rejected: number of rows without one.
        truncated: number of rows that lost tokens.
        tokens: tokens of the rows, without padding.
        computed_tokens: tokens that were run: padding included, and each set of equal rows once.
        padding: those of the computed tokens that were padding.
        input_bytes: bytes of the inputs that were read for these rows, as they are stored.
        without_id: number of rows that the model ran and that have no id.
        without_system: number of rows that the model ran without their system text.
        with_turns: number of rows whose request has turns of its own, or a history.
        lost_end: number of rows whose answer lost tokens that end a text.
        with_marks: number of rows with a mark of a chat template that was scored as words.
    """

    rows: int = 0
    rejected: int = 0
    truncated: int = 0
    tokens: int = 0
    computed_tokens: int = 0
    padding: int = 0
    input_bytes: int = 0
    without_id: int = 0
    without_system: int = 0
    with_turns: int = 0
    lost_end: int = 0
    with_marks: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    @property
    def padding_share(self) -> float:
        """The share of the computed tokens that was padding, 0 to 1."""
        return self.padding / self.computed_tokens if self.computed_tokens else 0.0


class ScoreSample:
    """Scores of a run: all of them, or of a long run those at equal distances, up to a million."""

    MOST = 1_000_000

    def __init__(self) -> None:
        self._parts: list[NDArray[np.float32]] = []
        self._kept = self._seen = 0
        self._every = 1

    def add(self, scores: NDArray[np.float32]) -> None:
        """Add the next scores, float32 [rows]."""
        self.add_some(len(scores), lambda places: scores[places])

    def add_some(self, count: int, scores_at: Callable[[slice], NDArray[np.float32]]) -> None:
        """Add the next scores.

        Args:
            count: their number.
            scores_at: returns those at some of their places, which are the ones that are kept.
        """
        part = scores_at(slice(-self._seen % self._every, None, self._every))
        self._seen += count
        self._parts.append(part)
        self._kept += len(part)
        while self._kept > self.MOST:
            self._parts = [np.concatenate(self._parts)[::2]]
            self._kept = len(self._parts[0])
            self._every *= 2

    def scores(self) -> NDArray[np.float32]:
        """Return the scores that were kept, in the order of the rows."""
        return np.concatenate(self._parts) if self._parts else np.zeros(0, np.float32)


@dataclass(frozen=True)
class Summary:
    """What a finished run did.

    Attributes:
        tally: all that was done, by this run and by the one that it continued.
        resumed: the part of it that the earlier run had done.
        seconds: from the start of this run to its last write, without loading the model.
        provider: the execution provider.
        precision: what the scores were computed in.
        output: name of the file or folder of scores.
        rejects: name of the file of rejects, if there are any.
        reasons: the commonest reasons of the rejects, with their counts.
        is_old: whether an earlier run had done everything, so that this one did nothing.
        scores: float32, the scores of this run as `ScoreSample` keeps them.
    """

    tally: Tally
    resumed: Tally
    seconds: float
    provider: Provider
    precision: Precision
    output: str
    rejects: str
    reasons: list[tuple[str, int]]
    is_old: bool = False
    scores: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))

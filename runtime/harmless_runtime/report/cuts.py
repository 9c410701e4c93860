"""Count how many rows every cut keeps, and group scores into the bars of a histogram."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from harmless_runtime.errors import InputError

# Cuts that the slider offers, about, and cuts in each bar of the histogram.
_CUTS = 600
_CUTS_IN_A_BAR = 10
# The shares of rows beyond which scores are shown in the first and the last bar.
_TAIL = 0.0005
QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Cuts:
    """Equally distant scores to cut at, and the rows that each cut keeps.

    Attributes:
        first: the lowest cut.
        step: the distance between two cuts: 1, 2 or 5 times a power of ten.
        digits: decimals that a cut needs.
        kept: int64 [cuts], the number of rows whose score is at least that of the cut.
        total: number of all rows with a score.
    """

    first: float
    step: float
    digits: int
    kept: NDArray[np.int64]
    total: int

    def value(self, number: int) -> float:
        """Return the score of a cut, with as many decimals as it needs."""
        return round(self.first + number * self.step, self.digits)

    @property
    def bars(self) -> list[tuple[float, float, int]]:
        """The bars of a histogram: where each begins and ends, and its number of rows.

        Lower scores are in the first bar, and higher ones in the last.
        """
        edges = list(range(0, len(self.kept), _CUTS_IN_A_BAR))
        kept = [self.total, *self.kept[edges[1:-1]].tolist(), 0]
        return [
            (self.value(start), self.value(end), kept[i] - kept[i + 1])
            for i, (start, end) in enumerate(pairwise(edges))
        ]


def check_range(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return scores that a model can have given.

    Raises:
        InputError: one is beyond the range of float32.
    """
    beyond = np.abs(scores) > np.finfo(np.float32).max
    if beyond.any():
        raise InputError(
            f"{scores[beyond][0]:g} is no score, because scores are within the range of float32"
        )
    return scores


def find_cuts(scores: NDArray[np.float64]) -> Cuts:
    """Return the cuts for some scores. Scores and cuts are compared in float32, as `select` does.

    Args:
        scores: float64 [rows], at least one, within the range of float32.
    """
    low, high = np.quantile(scores, [_TAIL, 1 - _TAIL]).tolist()
    # Scores that are closer to each other than float32 tells are in one bar.
    spread = max(high - low, max(abs(low), abs(high)) * 1e-4, 1e-9)
    step = _nice(spread / _CUTS)
    digits = max(0, -math.floor(math.log10(step)))
    bar = step * _CUTS_IN_A_BAR
    start = math.floor(low / bar)
    bars = max(math.floor(high / bar) + 1 - start, 1)
    first = start * bar
    count = bars * _CUTS_IN_A_BAR + 1
    values = np.round(first + step * np.arange(count), digits)
    with np.errstate(over="ignore"):  # a cut beyond all scores may become infinite
        limits = values.astype(np.float32)
    kept = len(scores) - np.searchsorted(np.sort(scores.astype(np.float32)), limits, side="left")
    return Cuts(round(first, digits), step, digits, kept.astype(np.int64), len(scores))


def _nice(step: float) -> float:
    """Return the least number that is at least `step` and 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= step * (1 - 1e-9))

"""Tell how often the chosen response of a preference pair scores higher than the rejected one."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harmless_runtime.rows.records import Pair, Reject
from harmless_runtime.scores.log import ScoreLine, read_scores

# The quantile of the normal distribution for an interval that holds 95 %.
_Z = 1.959963984540054
# Tokens by which the chosen response is longer: the limits between the classes of lengths.
_LENGTHS = (-64, -16, 17, 65)
_LENGTH_NAMES = (
    "chosen shorter by 65 or more",
    "chosen shorter by 17 to 64",
    "within 16 tokens",
    "chosen longer by 17 to 64",
    "chosen longer by 65 or more",
)
_MARGIN_CLASSES = 4


@dataclass(frozen=True)
class PairScores:
    """The scores of preference pairs both of whose texts were scored.

    Attributes:
        chosen: float64 [pairs], the scores of the chosen texts.
        rejected: float64 [pairs], those of the rejected texts.
        longer: int64 [pairs], tokens by which the chosen text is longer. It is negative where the
            rejected text is longer.
    """

    chosen: NDArray[np.float64]
    rejected: NDArray[np.float64]
    longer: NDArray[np.int64]

    @property
    def margins(self) -> NDArray[np.float64]:
        """float64 [pairs], the chosen text's score less the rejected one's."""
        return self.chosen - self.rejected


def read_pair_scores(lines: Iterable[bytes]) -> PairScores:
    """Put the lines of scores of a run over preference pairs together, in its order.

    Args:
        lines: the lines, which have the members that `details` adds. Lines of pairs of which the
            other text has no score are passed over.
    """
    scored: list[tuple[float, float, int]] = []
    chosen: ScoreLine | None = None  # until its rejected one comes
    for line in read_scores(lines):
        if line.text == "chosen":
            chosen = line
        elif chosen is not None and (line.source, line.line) == (chosen.source, chosen.line):
            scored.append((_score(chosen), _score(line), (chosen.tokens or 0) - (line.tokens or 0)))
            chosen = None
    columns = np.array(scored, np.float64).reshape(-1, 3).T
    return PairScores(columns[0], columns[1], columns[2].astype(np.int64))


def _score(line: ScoreLine) -> float:
    return float(bytes(line.score))


def complete_pairs(
    items: Iterable[Pair | Reject], lines: Iterable[bytes]
) -> Iterator[tuple[Pair, Pair]]:
    """Yield the pairs of texts whose scores `read_pair_scores` gives, in its order.

    Args:
        items: what was scored: the chosen and the rejected text of each row.
        lines: the lines of scores.
    """
    left = read_scores(lines)
    line = next(left, None)
    texts = iter(items)
    for pair in zip(texts, texts, strict=True):
        scored: list[Pair] = []
        for item in pair:
            if isinstance(item, Pair) and line is not None and _is_of(line, item):
                scored.append(item)
                line = next(left, None)
        if len(scored) == 2:
            yield scored[0], scored[1]


def _is_of(line: ScoreLine, item: Pair) -> bool:
    return (line.source, line.line, line.text) == (item.source, item.number, item.side)


@dataclass(frozen=True)
class Accuracy:
    """How often the chosen text scores higher, over some pairs.

    `accuracy` is (wins + ties / 2) / pairs, and NaN if there are no pairs. `low` and `high` bound
    its 95 % interval. `mean_margin` is the mean of the chosen text's score less the rejected one's.
    """

    pairs: int
    wins: int
    ties: int
    accuracy: float
    low: float
    high: float
    mean_margin: float


def accuracy_of(margins: NDArray[np.float64]) -> Accuracy:
    """Count wins and ties.

    Args:
        margins: float64 [pairs], the chosen text's score less the rejected one's.
    """
    pairs = len(margins)
    wins, ties = int((margins > 0).sum()), int((margins == 0).sum())
    share = (wins + ties / 2) / pairs if pairs else math.nan
    low, high = wilson_interval(share, pairs)
    mean = float(margins.mean()) if pairs else math.nan
    return Accuracy(pairs, wins, ties, share, low, high, mean)


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Return Wilson's interval for a share, which holds the true share in 95 % of samples.

    E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22
    (1927). Unlike p ± 1.96 standard errors, it stays within 0 and 1, and is right for small counts.

    Args:
        share: what was seen, 0 to 1.
        count: in how many cases. For 0 both bounds are NaN.
    """
    if not count:
        return math.nan, math.nan
    z2 = _Z**2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True)
class Group:
    """Pairs that have something in common, which `name` says, and the accuracy over them."""

    name: str
    accuracy: Accuracy


def by_margin(scores: PairScores) -> list[Group]:
    """Return the accuracy of four equally large groups, by how far the two scores are apart."""
    margins = scores.margins
    order = np.argsort(np.abs(margins), kind="stable")
    groups = []
    for part in np.array_split(order, _MARGIN_CLASSES):
        if len(part):
            sizes = np.abs(margins[part])
            name = f"{sizes[0]:.3g} to {sizes[-1]:.3g} apart"
            groups.append(Group(name, accuracy_of(margins[part])))
    return groups


def by_length(scores: PairScores) -> list[Group]:
    """Return the accuracy of groups by how much longer the chosen text is, without empty groups."""
    kinds = np.digitize(scores.longer, _LENGTHS)
    groups = [
        Group(name, accuracy_of(scores.margins[kinds == kind]))
        for kind, name in enumerate(_LENGTH_NAMES)
    ]
    return [group for group in groups if group.accuracy.pairs]


def turned(first: NDArray[np.float64], second: NDArray[np.float64]) -> int:
    """Return how many pairs one set of margins puts in another order than a second set.

    Args:
        first: float64 [pairs], margins.
        second: float64 [pairs], margins of the same pairs.
    """
    return int((np.sign(first) != np.sign(second)).sum())

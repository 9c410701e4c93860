"""Say which scores are kept: those above or below a cut, or a number of the highest or lowest."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harmless_runtime.errors import ConfigError
from harmless_runtime.scores.spool import Scores, Spool


@dataclass(frozen=True)
class Wanted:
    """Which rows to keep: those with scores in a range, or a number of the highest or lowest.

    Attributes:
        above: least score.
        below: the score that all are less than.
        end: which end of the scores `count` or `share` is of.
        count: number of rows.
        share: share of the rows that have a score, 0 to 1.
    """

    above: float | None = None
    below: float | None = None
    end: Literal["top", "bottom"] | None = None
    count: int | None = None
    share: float | None = None


@dataclass(frozen=True)
class Cut:
    """Which scores are kept: from `least` to `most`, both included.

    Of the rows that have the score `edge`, only the first `ties` are kept. With `rounded`, scores
    are rounded to float32 before they are compared.
    """

    least: float = -math.inf
    most: float = math.inf
    edge: float = math.nan
    ties: int = 0
    rounded: bool = False


NOTHING = Cut(math.inf, -math.inf)


def find_cut(wanted: Wanted, spool: Spool) -> Cut:
    """Return which scores are kept.

    Of rows with equal scores at the cut, as many are kept as make the number right.

    A limit is compared in float32, the type of the model's scores: the float32 0.1 is written as
    0.1 in JSON, is 0.10000000149 as a number of Python, and is meant by both.
    """
    if wanted.end is None:
        least = -math.inf if wanted.above is None else wanted.above
        below = math.inf if wanted.below is None else wanted.below
        # The upper end is the largest score that is less than `below`.
        if any(map(_beyond_float32, (least, below))):
            return Cut(least, math.nextafter(below, -math.inf))
        with np.errstate(over="ignore"):
            most = np.nextafter(np.float32(below), np.float32(-np.inf))
        upper = math.inf if wanted.below is None else float(most)
        return Cut(float(np.float32(least)), upper, rounded=True)
    count = wanted.count if wanted.share is None else round(wanted.share * spool.scored)
    count = min(count or 0, spool.scored)
    if count == 0:
        return NOTHING
    if wanted.end == "bottom":
        last = spool.nth(count)
        return Cut(most=last.score, edge=last.score, ties=last.place)
    first = spool.nth(spool.scored - count + 1)
    return Cut(first.score, edge=first.score, ties=first.equals - first.place + 1)


def _beyond_float32(limit: float) -> bool:
    """Return whether a finite limit is out of the range of float32."""
    return math.isfinite(limit) and abs(limit) > float(np.finfo(np.float32).max)


def choices(cut: Cut, spool: Spool) -> Iterator[bool]:
    """Yield for each row, in order, whether it is kept."""
    for _, kept in _blocks(cut, spool):
        yield from kept.tolist()


def count_kept(cut: Cut, spool: Spool) -> tuple[int, float | None, float | None]:
    """Return the number of rows that are kept, and the lowest and the highest of their scores."""
    count, lowest, highest = 0, math.inf, -math.inf
    for scores, kept in _blocks(cut, spool):
        if kept.any():
            count += int(kept.sum())
            lowest = min(lowest, float(scores[kept].min()))
            highest = max(highest, float(scores[kept].max()))
    return (count, lowest, highest) if count else (0, None, None)


def _blocks(cut: Cut, spool: Spool) -> Iterator[tuple[Scores, NDArray[np.bool_]]]:
    ties = cut.ties
    for scores in spool.blocks():
        compared = scores
        if cut.rounded:
            with np.errstate(over="ignore"):  # a score beyond float32 becomes infinite
                compared = scores.astype(np.float32).astype(np.float64)
        kept = np.isfinite(scores) & (compared >= cut.least) & (compared <= cut.most)
        at_edge = np.flatnonzero(scores == cut.edge)
        kept[at_edge[ties:]] = False
        ties = max(0, ties - len(at_edge))
        yield scores, kept


def parse_amount(text: str) -> tuple[int | None, float | None]:
    """Turn `90%` into a share, and `20` into a number of rows.

    Raises:
        ConfigError: it is neither.
    """
    try:
        if text.endswith("%"):
            share = float(text[:-1]) / 100
            if 0 <= share <= 1:
                return None, share
        elif int(text) >= 0:
            return int(text), None
    except ValueError:
        pass
    raise ConfigError(f"{text!r} is neither a number of rows, such as 20, nor a share, such as 90%")

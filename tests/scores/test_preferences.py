"""Accuracy on preference pairs: Wilson's interval, ties, groups, and lines that are missing."""

import math

import msgspec
import numpy as np
import pytest

from harmless_runtime.rows.records import Pair, Reject
from harmless_runtime.scores.preferences import (
    PairScores,
    accuracy_of,
    by_length,
    by_margin,
    complete_pairs,
    read_pair_scores,
    turned,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("wins", "count", "low", "high"),
    [
        # R. G. Newcombe, Two-sided confidence intervals for the single proportion, Statistics in
        # Medicine 17 (1998), table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval_is_that_of_the_literature(
    wins: int, count: int, low: float, high: float
) -> None:
    assert wilson_interval(wins / count, count) == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson_interval(1 - wins / count, count)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_ties_count_half() -> None:
    accuracy = accuracy_of(np.array([1.0, 0.0, -2.0, 0.5]))
    assert (accuracy.pairs, accuracy.wins, accuracy.ties) == (4, 2, 1)
    assert accuracy.accuracy == 2.5 / 4
    assert (accuracy.low, accuracy.high) == wilson_interval(2.5 / 4, 4)
    assert accuracy.mean_margin == pytest.approx(-0.125)
    nothing = accuracy_of(np.zeros(0))
    assert nothing.pairs == 0
    assert all(math.isnan(x) for x in (nothing.accuracy, nothing.low, nothing.mean_margin))


def test_groups_hold_every_pair_once() -> None:
    rng = np.random.default_rng(1)
    chosen, rejected = rng.normal(size=(2, 203))
    longer = rng.integers(-200, 200, 203)
    longer[:6] = [-65, -64, -17, -16, 64, 65]
    scores = PairScores(chosen, rejected, longer)
    for groups in (by_margin(scores), by_length(scores)):
        assert sum(group.accuracy.pairs for group in groups) == 203
        assert sum(group.accuracy.wins for group in groups) == int((chosen > rejected).sum())
    assert [group.accuracy.pairs for group in by_margin(scores)] == [51, 51, 51, 50]
    only = PairScores(chosen[:6], rejected[:6], longer[:6])
    assert [(group.name, group.accuracy.pairs) for group in by_length(only)] == [
        ("chosen shorter by 65 or more", 1),
        ("chosen shorter by 17 to 64", 2),
        ("within 16 tokens", 1),
        ("chosen longer by 17 to 64", 1),
        ("chosen longer by 65 or more", 1),
    ]


def test_pairs_that_turn() -> None:
    assert turned(np.array([1.0, -1.0, 0.0, 2.0]), np.array([0.5, 1.0, 0.0, -1.0])) == 2


def line(source: str, number: int, text: str, score: float, tokens: int = 3) -> bytes:
    return msgspec.json.encode(
        {"id": "", "score": score, "tokens": tokens, "source": source, "line": number, "text": text}
    )


def test_lines_of_pairs_that_are_not_complete_are_passed_over() -> None:
    lines = [
        line("a", 1, "chosen", 1.5, 9),
        line("a", 1, "rejected", 0.5, 4),
        line("a", 2, "chosen", 7),
        line("a", 3, "rejected", 7),
        line("a", 4, "chosen", 7),
        line("b", 4, "rejected", 7),
        line("b", 5, "chosen", -1),
        line("b", 5, "rejected", 2),
        line("b", 6, "chosen", 7),
    ]
    scores = read_pair_scores(lines)
    assert scores.chosen.tolist() == [1.5, -1]
    assert scores.rejected.tolist() == [0.5, 2]
    assert scores.longer.tolist() == [5, 0]

    def both(source: str, number: int, *, kept: str) -> list[Pair | Reject]:
        return [
            Pair(source, number, b'""', "q", side, side=side)
            if side in kept
            else Reject(source, number, "no", b"")
            for side in ("chosen", "rejected")
        ]

    items = [
        *both("a", 1, kept="chosen rejected"),
        *both("a", 2, kept="chosen"),
        *both("a", 3, kept="rejected"),
        *both("a", 4, kept="chosen rejected"),  # its rejected text had a score that is not finite
        *both("b", 4, kept="chosen rejected"),
        *both("b", 5, kept="chosen rejected"),
        *both("b", 6, kept="chosen"),
        *both("b", 7, kept=""),
    ]
    found = [(c.source, c.number, c.answer, r.answer) for c, r in complete_pairs(items, lines)]
    assert found == [("a", 1, "chosen", "rejected"), ("b", 5, "chosen", "rejected")]
    assert len(read_pair_scores([]).chosen) == 0

"""What a report counts and shows."""

import random
from itertools import pairwise

import msgspec
import numpy as np
import pytest

from harmless_runtime.errors import InputError
from harmless_runtime.report.cuts import find_cuts
from harmless_runtime.report.gather import gather
from harmless_runtime.report.groups import groups_of
from harmless_runtime.report.page import PageRows, visible
from harmless_runtime.report.row import ScoredRow
from harmless_runtime.scores.cut import Wanted, count_kept, find_cut
from harmless_runtime.scores.spool import spooled
from harmless_runtime.tally import ScoreSample


@pytest.mark.parametrize(
    "kind", ["normal", "equal", "few", "huge", "tiny", "outliers", "doubles", "fine", "largest"]
)
def test_every_cut_keeps_the_rows_that_select_would_keep(kind: str) -> None:
    rng = np.random.default_rng(4)
    scores = {
        "normal": rng.normal(-3, 2, 5000),
        "equal": np.full(50, 0.25),
        "few": np.array([1.5, -2.25, 7]),
        "huge": rng.normal(0, 1e30, 500),
        "tiny": rng.normal(0, 1e-20, 500) + 1e-18,
        "outliers": np.concatenate([rng.normal(0, 1, 20_000), [1e6, -1e6]]),
        "doubles": rng.choice([0.1, 0.7, 2.3], 300) + rng.normal(0, 1e-9, 300),
        "fine": 1 + rng.normal(0, 1e-12, 300),
        "largest": rng.choice([-1, 1], 300) * np.float64(np.finfo(np.float32).max),
    }[kind]
    if kind not in ("doubles", "fine"):
        scores = scores.astype(np.float32).astype(np.float64)
    cuts = find_cuts(scores)
    assert 1 < len(cuts.kept) < 2000
    with spooled(scores.tolist()) as spool:
        for number in range(len(cuts.kept)):
            kept, _, _ = count_kept(find_cut(Wanted(above=cuts.value(number)), spool), spool)
            assert cuts.kept[number] == kept, number
    bars = cuts.bars
    assert sum(rows for _, _, rows in bars) == len(scores)
    assert all(rows >= 0 for _, _, rows in bars)
    assert all(a[1] == b[0] for a, b in pairwise(bars))


def random_rows(count: int, *, tokens: bool) -> list[ScoredRow]:
    rng = random.Random(5)
    return [
        ScoredRow(
            None if i % 10 == 9 else rng.gauss(0, 1),
            str(i),
            "f",
            i,
            "q",
            "a" * (i % 50),
            i % 70 if tokens else None,
            i % 100 == 0,
            f"g{i % 3}",
        )
        for i in range(count)
    ]


@pytest.mark.parametrize("count", [5, 3000, 30_000])
def test_what_is_gathered(count: int) -> None:
    rows = random_rows(count, tokens=count != 3000)
    found = gather(iter(rows))
    scored = [row for row in rows if row.score is not None]
    assert found.rows == count
    assert found.scores.tolist() == [row.score for row in scored]
    assert found.without_score == count - len(scored)
    assert found.truncated == sum(row.truncated for row in scored)
    assert found.in_tokens == (count != 3000)
    lengths = [row.tokens if found.in_tokens else len(row.answer) + 1 for row in scored]
    assert found.lengths.tolist() == lengths
    assert [found.groups[code] for code in found.group] == [row.group for row in scored]
    by_score = sorted(scored, key=lambda row: row.score or 0)
    assert [row.id for row in found.lowest] == [row.id for row in by_score[:30]]
    assert [row.id for row in found.highest] == [row.id for row in by_score[::-1][:30]]
    assert len({row.id for row in found.drawn}) == len(found.drawn) == min(4000, len(scored))
    if count == 30_000:  # every tenth part of the input is drawn from about equally
        parts = np.bincount([row.number * 10 // count for row in found.drawn])
        assert parts.min() > 330
        assert parts.max() < 470


def test_long_texts_keep_their_end_and_their_beginning() -> None:
    row = ScoredRow(1.0, "x", "f", 1, "q" * 5000 + "END", "START" + "a" * 100_000)
    (short,) = gather([row]).lowest
    assert short.question.endswith("qEND")
    assert short.answer.startswith("STARTa")
    assert len(short.answer) <= 1500
    page = PageRows()
    page.add(short)
    (shown,) = page.shown()
    assert shown["question"].startswith("(4,253 more characters) …q")
    assert shown["answer"].endswith("a… (98,505 more characters)")


def test_texts_are_cut_as_far_as_the_page_has_room() -> None:
    page = PageRows()
    rows = [ScoredRow(i / 7, str(i), "f" * 500, i, "q" * 900, "ü" * 2000) for i in range(400)]
    assert page.add_all(rows) == list(range(400))
    assert page.add(rows[0]) == 0, "a row is in the page once"
    shown = page.shown()
    assert len(shown) == 400, "no row is left out"
    assert 300_000 < len(msgspec.json.encode(shown)) < 600_000
    assert "more characters)" in shown[0]["answer"]
    assert [row["score"] for row in shown] == [row.score for row in rows]


def test_a_group_that_comes_late_is_counted() -> None:
    rows = [ScoredRow(float(i), "", "f", i, group=f"g{i}") for i in range(2000)]
    rows += [ScoredRow(0.5, "", "f", i, group="late") for i in range(50)]
    assert ("late", 50) in {(group.name, group.rows) for group in groups_of(gather(rows))}


@pytest.mark.parametrize("score", [1.7e308, -1e39])
def test_scores_beyond_float32_are_refused(score: float) -> None:
    with pytest.raises(InputError, match="within the range of float32"):
        gather([ScoredRow(1.0, "a", "f", 1), ScoredRow(score, "b", "f", 2)])


def test_what_cannot_be_seen_is_made_visible() -> None:
    assert visible("a\x00b\x1b\x7f\ud800c\r\nd\te") == "a␀b␛��c\nd\te"


def test_a_sample_of_scores_is_spread_over_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScoreSample, "MOST", 1000)
    sample = ScoreSample()
    scores = np.arange(10_007, dtype=np.float32)
    rng = np.random.default_rng(7)
    for part in np.split(scores, np.sort(rng.integers(0, len(scores), 40))):
        sample.add(part)
    kept = sample.scores()
    every = int(kept[1] - kept[0])
    assert kept.tolist() == scores[::every].tolist()
    assert 500 < len(kept) <= 1000

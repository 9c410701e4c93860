"""What a report counts and shows."""

import random
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from pages import write_run

from harmless_runtime.report.compare import compare
from harmless_runtime.report.cuts import find_cuts
from harmless_runtime.report.gather import gather
from harmless_runtime.report.page import PageRows, visible
from harmless_runtime.report.scored_rows import ScoredRow, open_scored_rows
from harmless_runtime.tally import ScoreSample


@pytest.mark.parametrize("kind", ["normal", "equal", "few", "huge", "tiny", "outliers"])
def test_every_cut_keeps_the_rows_that_select_would_keep(kind: str) -> None:
    rng = np.random.default_rng(4)
    scores = {
        "normal": rng.normal(-3, 2, 5000),
        "equal": np.full(50, 0.25),
        "few": np.array([1.5, -2.25, 7]),
        "huge": rng.normal(0, 1e30, 500),
        "tiny": rng.normal(0, 1e-20, 500) + 1e-18,
        "outliers": np.concatenate([rng.normal(0, 1, 20_000), [1e6, -1e6]]),
    }[kind].astype(np.float32).astype(np.float64)  # fmt: skip
    cuts = find_cuts(scores)
    assert 1 < len(cuts.kept) < 2000
    for number in range(len(cuts.kept)):
        assert cuts.kept[number] == (scores >= cuts.value(number)).sum(), number
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
    assert "4,303 more characters" in short.question
    assert short.answer.startswith("STARTa")
    assert len(short.answer) < 1600


def test_a_page_has_room_for_so_much_text() -> None:
    page = PageRows()
    rows = [ScoredRow(1.0, str(i), "f", i, "q", "ü" * 1000) for i in range(2000)]
    places = page.add_all(rows)
    assert 200 < len(places) < 400
    assert page.add(rows[0]) == 0, "a row is in the page once"
    assert len(msgspec.json.encode(page.rows)) < 700_000


def test_what_cannot_be_seen_is_made_visible() -> None:
    assert visible("a\x00b\x1b\x7f\ud800c\r\nd\te") == "a␀b␛��c\nd\te"


def test_agreement_is_that_of_numpy(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    a = rng.normal(size=400).round(1)
    b = a + rng.normal(size=400) * 0.3
    rows = [{"id": i} for i in range(400)]
    outs = [write_run(tmp_path, rows, s.tolist(), n) for s, n in ((a, "a"), (b, "b"))]
    (tmp_path / "rows.jsonl").unlink()
    found = compare(*(open_scored_rows(str(out), [], None) for out in outs))
    assert found.pearson == pytest.approx(np.corrcoef(a, b)[0, 1])
    ranks = [np.array([(s < x).sum() + ((s == x).sum() + 1) / 2 for x in s]) for s in (a, b)]
    assert found.spearman == pytest.approx(np.corrcoef(ranks[0], ranks[1])[0, 1])
    assert found.moved[0].row.id == str(np.abs(a - b).argmax())
    changed = dict(found.changed_sides())
    kept = [s >= np.quantile(s, 0.1) for s in (a, b)]
    assert changed[0.1] == (kept[0] != kept[1]).mean()


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

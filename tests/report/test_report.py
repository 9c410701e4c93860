"""What a report counts and shows, the refusals of `harmless report`, and the end of `score`."""

import html
import json
import random
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

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
from processes import Harmless


def data_of(path: Path) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>',
                      path.read_text(), re.DOTALL)  # fmt: skip
    assert found
    return json.loads(found[1])


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


def test_a_run_of_the_command_is_reported_with_its_facts(
    tmp_path: Path, harmless: Harmless
) -> None:
    rows = tmp_path / "rows.jsonl"
    lines = [
        json.dumps({"id": i, "instruction": f"ask {i}", "output": "word " * (i % 40 + 1)})
        for i in range(200)
    ]
    rows.write_text("\n".join([*lines, "{broken"]) + "\n")
    out, page = tmp_path / "scores.jsonl", tmp_path / "r.html"
    done = harmless("score", rows, "-o", out, "--model", "demo", "--details")
    assert done.returncode == 3
    assert "quantiles: 1% " in done.stderr
    assert done.stderr.count("█") > 20
    assert f"harmless report {out} -o report.html" in done.stderr
    done = harmless("report", out, "-o", page)
    assert done.returncode == 0, done.stderr
    text = html.unescape(page.read_text())
    record = json.loads((tmp_path / "scores.jsonl.run.json").read_text())
    assert record["about"]["seconds"] > 0
    assert record["about"]["resumed_rows"] == 0
    for fact in (
        record["fingerprint"]["the artifact's SHA-256"],
        "cpu, fp32",
        "rows/s",
        "harmless (cpu)",
        "1 rows have no score",
        "not valid JSON",
        "length in tokens",
        f"harmless select {rows} --scores {out} -o kept.jsonl --above",
    ):
        assert fact in text, fact
    data = data_of(page)
    assert data["cuts"]["total"] == 200
    ids = {row["id"] for row in data["rows"]}
    assert ids == {str(i) for i in range(200)}
    assert any(row["answer"].startswith("word word") for row in data["rows"])
    assert "already exists" in harmless("report", out, "-o", page).stderr
    assert harmless("report", out, "-o", page, "--overwrite").returncode == 0


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_joined_rows_are_reported(form: str, tmp_path: Path, harmless: Harmless) -> None:
    rows = tmp_path / "rows.jsonl"
    content = [
        {"id": i, "instruction": "Hi", "output": f"o{i}", "kind": f"k{i % 2}"} for i in range(50)
    ]
    rows.write_text("".join(json.dumps(row) + "\n" for row in content))
    out, page = tmp_path / f"joined.{form}", tmp_path / "r.html"
    done = harmless("score", rows, "-o", out, "--model", "demo", "--join")
    assert done.returncode == 0, done.stderr
    if form == "csv":  # without its record, the file alone tells enough
        (tmp_path / "joined.csv.run.json").unlink()
    done = harmless("report", out, "-o", page, "--by", "kind")
    assert done.returncode == 0, done.stderr
    assert {row["answer"] for row in data_of(page)["rows"]} == {f"o{i}" for i in range(50)}
    assert "By kind" in page.read_text()
    assert f"harmless select {out}" in page.read_text()


def test_scores_alone_are_reported_without_texts(tmp_path: Path, harmless: Harmless) -> None:
    out = write_run(tmp_path, [{"id": i} for i in range(40)], [float(i) for i in range(40)])
    (tmp_path / "rows.jsonl").unlink()
    done = harmless("report", out, "-o", tmp_path / "r.html")
    assert done.returncode == 0, done.stderr
    assert "The rows are not known" in (tmp_path / "r.html").read_text()
    refused = harmless("report", out, "-o", tmp_path / "s.html", "--by", "kind")
    assert "--rows names them" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["a.jsonl", "b.jsonl", "c.jsonl"], 2, "at most two can be compared"),
        (["a.jsonl", "b.jsonl", "--by", "kind"], 2, "leave --by out"),
        (["missing.jsonl"], 1, "cannot read missing.jsonl"),
        (["empty.jsonl"], 1, "has no scores"),
        (["rows.jsonl"], 1, "is not a file of ids and scores"),
        (["a.jsonl", "other.jsonl"], 1, "no rows in common"),
        (["a.jsonl", "twice.jsonl"], 1, "cannot be told apart by their ids"),
    ],
)
def test_refusals(
    arguments: list[str], code: int, message: str, tmp_path: Path, harmless: Harmless
) -> None:
    write_run(tmp_path, [{"id": i} for i in range(4)], [1.0, 2.0, 3.0, 4.0], "a")
    write_run(tmp_path, [{"id": i} for i in range(4)], [1.0, 2.0, 3.0, 4.0], "b")
    write_run(tmp_path, [{"id": i} for i in range(9, 12)], [1.0, 2.0, 3.0], "other")
    write_run(tmp_path, [{"id": 1}, {"id": 1}], [1.0, 2.0], "twice")
    (tmp_path / "empty.jsonl").touch()
    done = harmless("report", *arguments, "-o", "r.html", cwd=tmp_path)
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr
    assert not (tmp_path / "r.html").exists()


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

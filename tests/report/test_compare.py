"""Which rows of two runs belong together, and what is told of their scores."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import write_run

from harmless_runtime.errors import InputError
from harmless_runtime.report.compare import Comparison, compare
from harmless_runtime.report.comparison import make_comparison
from harmless_runtime.report.scored_rows import ScoredRows, open_scored_rows
from processes import Harmless


def rows_of(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"instruction": "Hi", "output": f"o{i}", **fields} for i in range(count)]


def opened(out: Path, rows: Path | None = None) -> ScoredRows:
    return open_scored_rows(str(out), [str(rows)] if rows else [], None)


def run(folder: Path, name: str, rows: list[dict[str, Any]], scores: list[float | None]) -> Path:
    """Write a run into a folder of its own, with its rows beside it."""
    (folder / name).mkdir()
    return write_run(folder / name, rows, scores)


def moved(found: Comparison) -> dict[str, tuple[float, float]]:
    return {each.row.answer: (each.first, each.second) for each in found.moved}


def test_agreement_is_that_of_numpy(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    a = rng.normal(size=400).round(1)
    b = a + rng.normal(size=400) * 0.3
    rows = [{"id": i} for i in range(400)]
    outs = [write_run(tmp_path, rows, s.tolist(), n) for s, n in ((a, "a"), (b, "b"))]
    (tmp_path / "rows.jsonl").unlink()
    found = compare(*map(opened, outs))
    assert found.pearson == pytest.approx(np.corrcoef(a, b)[0, 1])
    ranks = [np.array([(s < x).sum() + ((s == x).sum() + 1) / 2 for x in s]) for s in (a, b)]
    assert found.spearman == pytest.approx(np.corrcoef(ranks[0], ranks[1])[0, 1])
    assert found.moved[0].row.id == str(np.abs(a - b).argmax())
    changed = dict(found.changed_sides())
    kept = [s >= np.quantile(s, 0.1) for s in (a, b)]
    assert changed[0.1] == (kept[0] != kept[1]).mean()


def test_rows_without_ids_keep_their_places_beside_rejects(tmp_path: Path) -> None:
    rows = rows_of(4)
    first = run(tmp_path, "a", rows, [None, 1.0, 2.0, 3.0])
    second = run(tmp_path, "b", rows, [10.0, 11.0, 12.0, None])
    found = compare(*(opened(out, out.with_name("rows.jsonl")) for out in (first, second)))
    assert moved(found) == {"o1": (1.0, 11.0), "o2": (2.0, 12.0)}
    assert (found.only_one, found.other_texts) == (2, 0)


def test_other_rows_are_not_compared_by_their_places(tmp_path: Path) -> None:
    first = run(tmp_path, "a", rows_of(3), [1.0, 2.0, 3.0])
    second = run(tmp_path, "b", rows_of(4)[1:], [1.0, 2.0, 3.0])
    with pytest.raises(InputError, match="cannot be told apart by their ids"):
        compare(*(opened(out, out.with_name("rows.jsonl")) for out in (first, second)))


def test_rows_with_equal_ids_and_other_texts_are_counted(tmp_path: Path) -> None:
    rows = [row | {"id": i} for i, row in enumerate(rows_of(3))]
    edited = [*rows[:2], rows[2] | {"output": "edited"}]
    outs = run(tmp_path, "a", rows, [1.0, 2.0, 3.0]), run(tmp_path, "b", edited, [1.0, 2.0, 3.0])
    opened_runs = [opened(out, out.with_name("rows.jsonl")) for out in outs]
    assert compare(*opened_runs).other_texts == 1
    assert b"rows with other texts" in make_comparison(*opened_runs)


def test_ids_that_are_objects_belong_together_however_they_are_written(tmp_path: Path) -> None:
    outs = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    outs[0].write_text('{"id": {"a": 1}, "score": 1}\n{"id": {"a": 2}, "score": 2}\n')
    outs[1].write_text('{"id": {"a":2}, "score": 5}\n{"id": {"a":1}, "score": 4}\n')
    found = compare(*map(opened, outs))
    assert (found.first.tolist(), found.second.tolist()) == ([1.0, 2.0], [4.0, 5.0])


def test_equal_scores_have_no_correlation(tmp_path: Path) -> None:
    out = run(tmp_path, "a", [{"id": i} for i in range(5)], [1.0] * 5)
    page = make_comparison(opened(out), opened(out)).decode()
    assert "nan" not in page.split("<script")[0]
    assert "<b>–</b><span>Spearman" in page


def test_runs_of_the_command_are_compared_by_their_records(
    tmp_path: Path, harmless: Harmless
) -> None:
    """Without ids and with other rejects, also if their rows are gone."""
    rows = tmp_path / "rows.jsonl"
    texts = ["a", "b" * 500, "c", "d"]
    rows.write_text(
        "".join(json.dumps({"instruction": "Hi", "output": text}) + "\n" for text in texts)
    )
    names = ["all.jsonl", "short.jsonl", "joined.csv"]
    for name, options in zip(names, [[], ["--max-line-bytes", "300"], ["--join"]], strict=True):
        done = harmless("score", rows, "-o", name, "--model", "demo", *options, cwd=tmp_path)
        assert done.returncode == (3 if name == "short.jsonl" else 0), done.stderr
    found = compare(*(opened(tmp_path / name) for name in ("all.jsonl", "joined.csv")))
    assert np.array_equal(found.first, found.second)
    # What was too long is another row than it would be without the limit, but the texts tell.
    found = compare(*(opened(tmp_path / name) for name in ("all.jsonl", "short.jsonl")))
    assert len(found.first) == 3
    assert np.array_equal(found.first, found.second)
    rows.unlink()
    found = compare(*(opened(tmp_path / name) for name in ("all.jsonl", "joined.csv")))
    assert np.array_equal(found.first, found.second)
    with pytest.raises(InputError, match="cannot be told apart"):
        compare(*(opened(tmp_path / name) for name in ("all.jsonl", "short.jsonl")))


def test_joined_rows_of_an_unknown_shape_belong_together_by_their_ids(
    tmp_path: Path, harmless: Harmless
) -> None:
    content = [{"id": i, "q": "Hi", "a": f"a{i}"} for i in range(30)]
    outs = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for out, rows in zip(outs, (content, content[::-1]), strict=True):
        source = tmp_path / "rows.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        named = ["--columns", "instruction=q,output=a", "--join"]
        done = harmless("score", source, "-o", out, "--model", "demo", *named)
        assert done.returncode == 0, done.stderr
        out.with_name(out.name + ".run.json").unlink()
    found = compare(*map(opened, outs))
    assert (len(found.first), found.unknown_texts) == (30, 30)
    assert np.allclose(found.first, found.second, atol=1e-5)
    page = make_comparison(*map(opened, outs))
    assert b"it is not known whether both runs had the same texts" in page


def test_rows_without_an_id_are_left_out_among_those_with_one(tmp_path: Path) -> None:
    rows = [{"id": 1}, {}, {"id": 2}]
    first = run(tmp_path, "a", rows, [1.0, 2.0, 3.0])
    second = run(tmp_path, "b", rows[::-1], [3.5, 8.0, 1.5])
    found = compare(opened(first), opened(second))
    assert (found.first.tolist(), found.second.tolist()) == ([1.0, 3.0], [1.5, 3.5])
    assert found.only_one == 2


def test_records_tell_of_equal_rows_without_ids_and_with_unreadable_ones(
    tmp_path: Path, harmless: Harmless
) -> None:
    source = tmp_path / "rows.jsonl"
    lines = [json.dumps({"instruction": "Hi", "output": f"a{i}"}) for i in range(9)]
    source.write_text("\n".join([*lines[:4], "{oh", *lines[4:]]) + "\n")
    outs = [tmp_path / "a.jsonl", tmp_path / "b.jsonl", tmp_path / "c.csv"]
    for out in outs:
        join = ["--join"] if out.suffix == ".csv" else []
        assert harmless("score", source, "-o", out, "--model", "demo", *join).returncode == 3
    source.unlink()
    for other in outs[1:]:
        found = compare(opened(outs[0]), opened(other))
        assert (len(found.first), found.unknown_texts) == (9, 0)
        assert np.array_equal(found.first, found.second)

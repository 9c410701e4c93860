"""Scores of several scorers in one file: by the lines of the input, and others by their ids."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from harmless_runtime.errors import OutputError
from harmless_runtime.jobs.results import OwnResults
from harmless_runtime.jobs.together import found_beside, put_together
from reading import names_in, read_rows

Line = dict[str, Any]


def write(path: Path, lines: list[Line]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def own(path: Path, rows: list[tuple[int, Any, float]]) -> OwnResults:
    """Write the output of a run: the line, the id and the score of each row."""
    write(path, [{"id": i, "score": score, "line": line} for line, i, score in rows])
    return OwnResults(path, numbers_rows=False)


def test_like_a_dictionary_of_all_lines(tmp_path: Path) -> None:
    """If no id repeats, the result is what the framework makes with a dictionary."""
    chance = random.Random(0)
    for trial in range(40):
        ids = [chance.choice([i, str(i), f"é{i}"]) for i in range(chance.randrange(1, 12))]
        lacking = chance.choice([0.0, 0.2])
        expected: dict[str, dict[str, Line]] = {}
        mine: dict[str, OwnResults] = {}
        others: dict[str, Path] = {}
        for name in ("A", "B", "C"):
            rows = [(n, i, chance.random()) for n, i in enumerate(ids, 1)]
            rows = [row for row in rows if chance.random() >= lacking]
            for _, i, score in rows:
                expected.setdefault(json.dumps(i), {})[name] = {"score": score}
            path = tmp_path / f"{trial}/{name}"
            if name == "C":
                shuffled = chance.sample(rows, len(rows))
                others[name] = write(path, [{"id": i, "score": s} for _, i, s in shuffled])
            else:
                mine[name] = own(path, rows)
        out = tmp_path / "out.jsonl"
        assert put_together(mine, others, out) == len(expected)
        together = read_rows(out)
        assert {json.dumps(line["id"]): line["scores"] for line in together} == expected
        assert len(together) == len(expected)
        if not lacking:
            assert [line["id"] for line in together] == ids


def test_rows_with_equal_ids_are_told_apart_by_their_lines(tmp_path: Path) -> None:
    mine = {
        "A": own(tmp_path / "a", [(1, "x", 1), (3, "x", 3), (4, "x", 4)]),
        "B": own(tmp_path / "b", [(1, "x", 1), (2, "x", 2), (3, "x", 3)]),
    }
    assert put_together(mine, {}, tmp_path / "out") == 4
    scores = [line["scores"] for line in read_rows(tmp_path / "out")]
    found = [sorted((name, s[name]["score"]) for name in s) for s in scores]
    assert found == [[("A", 1), ("B", 1)], [("B", 2)], [("A", 3), ("B", 3)], [("A", 4)]]


def test_an_id_that_repeats_gets_nothing_of_another_scorer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mine = {"A": own(tmp_path / "a", [(1, "x", 1), (2, "x", 2), (3, "y", 3), (4, "z", 4)])}
    theirs = [{"id": "x", "s": 1}, {"id": "z", "s": 2}, {"id": "y", "s": 3}, {"id": "z", "s": 4}]
    others = {"B": write(tmp_path / "b", theirs)}
    assert put_together(mine, others, tmp_path / "out") == 4
    names = [list(line["scores"]) for line in read_rows(tmp_path / "out")]
    assert names == [["A"], ["A"], ["A", "B"], ["A"]]
    assert "3 lines of" in caplog.text


def test_lines_of_other_programs_are_read_as_python_reads_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "b"
    deep = b'{"id": 5, "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    lines = [b'\xef\xbb\xbf{"id": 1, "s": NaN}', b"", b"no json", b'{"s": 1}', b'{"id": "\xff"}']
    path.write_bytes(b"\n".join([*lines, b"[]", deep, b'{"id": "\\ud800", "s": "\\ud800"}', b""]))
    mine = {"A": own(tmp_path / "a", [(1, 1, 0.5)])}
    assert put_together(mine, {"B": path}, tmp_path / "out") == 2
    first, second = read_rows(tmp_path / "out")
    assert first == {"id": 1, "scores": {"A": {"score": 0.5}, "B": {"s": None}}}
    assert second == {"id": "\ud800", "scores": {"B": {"s": "\ud800"}}}
    assert "5 lines of" in caplog.text


def test_an_id_that_python_cannot_read_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a").write_text('{"id": 1e999999, "score": 1, "line": 1}\n')
    mine = {"A": OwnResults(tmp_path / "a", numbers_rows=False)}
    others = {"B": write(tmp_path / "b", [{"id": 1, "s": 2}])}
    assert put_together(mine, others, tmp_path / "out") == 2
    assert (tmp_path / "out").read_text().startswith('{"id": 1e999999, "scores": {"A"')


def test_files_are_found_as_the_framework_finds_them(tmp_path: Path) -> None:
    one = [{"id": 1}]
    write(tmp_path / "scorer_A/A.jsonl", one)
    best = write(tmp_path / "scorer_A/A_merged.jsonl", one)
    write(tmp_path / "scorer_B/B_data_part_0.jsonl", one)
    plain = write(tmp_path / "scorer_B/sub.jsonl", one)
    write(tmp_path / "scorer_Own/Own.jsonl", one)
    write(tmp_path / "scorer_Set/Set.jsonl", [{"vendi": 1}])
    write(tmp_path / "scorer_Empty/Empty.jsonl", [])
    (tmp_path / "scorer_Odd/a.jsonl").mkdir(parents=True)
    write(tmp_path / "other/x.jsonl", one)
    assert found_beside(tmp_path, ["Own"]) == {"A": best, "B": plain}


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(OutputError, match="cannot write") as caught:
        put_together({"A": own(tmp_path / "a", [(1, 1, 1)])}, {}, out)
    assert "resume" in str(caught.value.hint)
    assert names_in(tmp_path) == ["a", "out", "out.tmp"]

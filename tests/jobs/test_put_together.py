"""Scores of several scorers in one file, against the dictionary that the framework makes."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from harmless_runtime.errors import OutputError
from harmless_runtime.jobs.results import found_beside, put_together
from reading import names_in, read_rows

Line = dict[str, Any]


def write(path: Path, lines: list[Line]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_like_a_dictionary_of_all_lines(tmp_path: Path) -> None:
    chance = random.Random(0)
    for trial in range(50):
        ids = [chance.choice([i, str(i), f"é{i}"]) for i in range(chance.randrange(1, 12))]
        lacking = chance.choice([0.0, 0.2])
        by_scorer = {
            name: [
                {"id": i, "score": chance.random(), "more": name}
                for i in ids
                if chance.random() >= lacking
            ]
            for name in ("A", "B", "C")
        }
        expected: dict[str, dict[str, Line]] = {}
        for name, lines in by_scorer.items():
            for line in lines:
                found = {k: v for k, v in line.items() if k != "id"}
                expected.setdefault(json.dumps(line["id"]), {})[name] = found
        files = {n: write(tmp_path / f"{trial}/{n}", lines) for n, lines in by_scorer.items()}
        out = tmp_path / "out.jsonl"
        assert put_together(files, out) == len(expected)
        together = read_rows(out)
        assert {json.dumps(line["id"]): line["scores"] for line in together} == expected
        assert len(together) == len(expected)
        if not lacking:
            assert [line["id"] for line in together] == ids


@pytest.mark.parametrize("missing", [False, True])
def test_rows_with_equal_ids_are_kept_apart(missing: bool, tmp_path: Path) -> None:
    first = [{"id": "x", "score": n} for n in range(3)]
    second = [{"id": "x", "score": n + 0.5} for n in range(2 if missing else 3)]
    files = {"A": write(tmp_path / "a", first), "B": write(tmp_path / "b", second)}
    assert put_together(files, tmp_path / "out") == 3
    scores = [line["scores"] for line in read_rows(tmp_path / "out")]
    assert [s["A"]["score"] for s in scores] == [0, 1, 2]
    assert [s["B"]["score"] for s in scores if "B" in s] == [s["score"] for s in second]


def test_lines_without_an_id_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b'{"id": 1, "s": 2}\nno json\n{"s": 1}\n{"id": "\xff"}\n[]\n')
    assert put_together({"A": path}, tmp_path / "out") == 1
    assert "4 lines of A have no id" in caplog.text


def test_files_are_found_as_the_framework_finds_them(tmp_path: Path) -> None:
    one = [{"id": 1}]
    write(tmp_path / "scorer_A/A.jsonl", one)
    best = write(tmp_path / "scorer_A/A_merged.jsonl", one)
    write(tmp_path / "scorer_B/B_data_part_0.jsonl", one)
    plain = write(tmp_path / "scorer_B/sub.jsonl", one)
    write(tmp_path / "scorer_Own/Own.jsonl", one)
    write(tmp_path / "scorer_Set/Set.jsonl", [{"vendi": 1}])
    write(tmp_path / "scorer_Empty/Empty.jsonl", [])
    write(tmp_path / "other/x.jsonl", one)
    assert found_beside(tmp_path, ["Own"]) == {"A": best, "B": plain}


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        put_together({"A": write(tmp_path / "a", [{"id": 1}])}, out)
    assert names_in(tmp_path) == ["a", "out"]

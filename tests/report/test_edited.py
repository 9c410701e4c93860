"""Reports on what people and other programs have made of the files of a run."""

import html
import json
import os
from pathlib import Path
from typing import Any

import pytest
from pages import data_of, write_run

from processes import Harmless

SCORED = ["score", "rows.jsonl", "--model", "demo"]


def write_rows(folder: Path, rows: list[dict[str, Any]]) -> None:
    lines = (json.dumps(row) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text("".join(lines))


def plain_rows(count: int) -> list[dict[str, Any]]:
    return [{"id": i, "instruction": "Hi", "output": f"o{i}"} for i in range(count)]


HUGE = 10**400
EDITS: list[dict[str, Any]] = [
    {"seconds": "fast"},
    {"seconds": HUGE},
    {"seconds": 0},
    {"parity": "good"},
    {"parity": [{"runner": 1}]},
    {"parity": [{"runner": "x", "relative": 0, "limit": 1, "spearman": 1}] * 20_000},
    {"parity": [{"runner": "x", "relative": HUGE, "limit": None, "spearman": 1}]},
    {"revision": HUGE, "checkpoint": ["a", {}], "artifact": None, "versions": [1]},
    {"versions": {"x": HUGE}, "checkpoint": "c" * 5_000_000},
]


@pytest.mark.slow
def test_a_record_that_was_edited_is_reported(tmp_path: Path, harmless: Harmless) -> None:
    write_rows(tmp_path, plain_rows(3))
    done = harmless(*SCORED, "-o", "scores.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "scores.jsonl.run.json"
    record = json.loads(path.read_text())
    for edit in EDITS:
        path.write_text(json.dumps(record | {"about": record["about"] | edit}))
        done = harmless("report", "scores.jsonl", "-o", "r.html", "--overwrite", cwd=tmp_path)
        assert done.returncode == 0, (edit, done.stderr)
        assert (tmp_path / "r.html").stat().st_size < 500_000
    path.write_text(json.dumps(record | {"inputs": [record["inputs"][0] | {"name": "a\0b"}]}))
    done = harmless("report", "scores.jsonl", "-o", "r.html", "--overwrite", cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "is not the record of a run" in done.stderr


@pytest.mark.parametrize("kind", ["report", "select"])
def test_rejects_that_are_none(kind: str, tmp_path: Path, harmless: Harmless) -> None:
    write_run(tmp_path, plain_rows(3), [1.0, 2.0, 3.0])
    (tmp_path / "scores.rejects.jsonl").write_text("oh no\n")
    asked = {
        "report": ["report", "scores.jsonl", "--rows", "rows.jsonl", "-o", "r.html"],
        "select": ["select", "rows.jsonl", "--scores", "scores.jsonl", "--above", "1", "-o",
                   "kept.jsonl"],
    }[kind]  # fmt: skip
    done = harmless(*asked, cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "line 1 of scores.rejects.jsonl is not a reject" in done.stderr
    done = harmless("report", "scores.jsonl", "-o", "r.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_numbers_that_no_model_gives(tmp_path: Path, harmless: Harmless) -> None:
    out = tmp_path / "scores.jsonl"
    for line, told in (
        ('{"id": 1, "score": 1.7e308}', "within the range of float32"),
        ('{"id": 1, "score": 1, "tokens": 9223372036854775808}', "not a file of ids and scores"),
    ):
        out.write_text(f'{{"id": 0, "score": 0}}\n{line}\n')
        done = harmless("report", out, "-o", tmp_path / "r.html")
        assert (done.returncode, told in done.stderr) == (1, True), done.stderr


def test_names_that_are_not_utf_8(tmp_path: Path, harmless: Harmless) -> None:
    write_rows(tmp_path, plain_rows(3))
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    Path(folder).mkdir()
    (tmp_path / "rows.jsonl").rename(f"{folder}/rows.jsonl")
    for options in ([], ["--join"]):
        out = f"{folder}/s{len(options)}.jsonl"
        done = harmless("score", f"{folder}/rows.jsonl", "-o", out, "--model", "demo", *options)
        assert done.returncode == 0, done.stderr
        done = harmless("report", out, "-o", f"{folder}/r.html", "--overwrite")
        assert done.returncode == 0, done.stderr
        page = html.unescape(Path(f"{folder}/r.html").read_text())
        assert "harmless select" in page
        assert rf"/caf\xe9/s{len(options)}.jsonl'" in page


def test_joined_rows_that_were_edited(tmp_path: Path, harmless: Harmless) -> None:
    write_rows(tmp_path, plain_rows(3))
    done = harmless(*SCORED, "-o", "joined.jsonl", "--join", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    joined = tmp_path / "joined.jsonl"
    joined.write_text("".join(joined.read_text().splitlines(keepends=True)[:2]))
    done = harmless("report", "joined.jsonl", "-o", "r.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "nothing is said of the run, because joined.jsonl was changed" in done.stderr
    assert "rows/s" not in (tmp_path / "r.html").read_text()
    # A file that was put beside those of the run.
    done = harmless(*SCORED, "-o", "all/", "--join", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    joined.rename(tmp_path / "all" / "more.jsonl")
    done = harmless("report", "all", "-o", "r2.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "more.jsonl is not of the run" in done.stderr
    # A score that is none is refused here as `select` refuses it.
    joined.write_text('{"id": 1, "harmless_score": "n/a"}\n')
    done = harmless("report", "joined.jsonl", "-o", "r3.html", cwd=tmp_path)
    assert (done.returncode, "is 'n/a', and not a score" in done.stderr) == (1, True)


def test_joined_csv_of_lists_has_the_texts_of_its_run(tmp_path: Path, harmless: Harmless) -> None:
    rows = [
        {"id": i, "prompt": [{"role": "user", "content": "Hi"}],
         "completion": [{"role": "assistant", "content": f"a{i}"}]}
        for i in range(5)
    ]  # fmt: skip
    write_rows(tmp_path, rows)
    for out, join in (("s.jsonl", []), ("joined.csv", ["--join"])):
        assert harmless(*SCORED, "-o", out, *join, cwd=tmp_path).returncode == 0
    (tmp_path / "joined.csv.run.json").unlink()
    done = harmless("report", "s.jsonl", "joined.csv", "-o", "r.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "other texts" not in (tmp_path / "r.html").read_text()
    assert {row["question"] for row in data_of(tmp_path / "r.html")["rows"]} == {
        "Human: Hi\n\nAssistant:"
    }


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
def test_details_are_used_in_every_form(form: str, tmp_path: Path, harmless: Harmless) -> None:
    write_rows(tmp_path, plain_rows(3))
    done = harmless(*SCORED, "-o", f"s.{form}", "--details", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = harmless("report", f"s.{form}", "-o", "r.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "length in tokens" in (tmp_path / "r.html").read_text()


def test_joined_csv_of_conversations_has_their_texts(tmp_path: Path, harmless: Harmless) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
    write_rows(tmp_path, [{"id": 1, "messages": turns}, {"id": 2, "messages": turns}])
    done = harmless(*SCORED, "-o", "joined.csv", "--join", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = harmless("report", "joined.csv", "-o", "r.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {row["answer"] for row in data_of(tmp_path / "r.html")["rows"]} == {"Hello!"}


def test_group_names_of_any_kind(tmp_path: Path, harmless: Harmless) -> None:
    kinds: list[Any] = [
        None,
        "None",
        True,
        "#a1b2c1",
        {"a": [1]},
        "x" * 300_000,
        "(none)",
        "𝐇𝐢" * 30,
    ]
    rows = [row | {"kind": kinds[i % len(kinds)]} for i, row in enumerate(plain_rows(24))]
    write_run(tmp_path, [*rows, {"id": 24, "instruction": "Hi", "output": "<" * 90_000}],
              [float(i) for i in range(25)])  # fmt: skip
    asked = ["report", "scores.jsonl", "--rows", "rows.jsonl", "--by", "kind", "-o", "-"]
    done = harmless(*asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "-").exists()
    text = html.unescape(done.stdout)
    for name in ("null", "None", "true", "#a1b2c1", '{"a":[1]}', "(none)"):
        assert f"<td>{name}</td>" in text
    assert len(text) < 500_000


def test_the_select_command_can_be_typed_as_it_is(tmp_path: Path, harmless: Harmless) -> None:
    names = [f"part {i}.jsonl" for i in range(7)]
    for i, name in enumerate(names):
        row = {"id": i, "instruction": "Hi", "output": "a"}
        (tmp_path / name).write_text(json.dumps(row) + "\n")
    done = harmless("score", *names, "-o", "s.jsonl", "--model", "demo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    asked = ["report", "s.jsonl", "-o", "r.html", "--overwrite"]
    assert harmless(*asked, cwd=tmp_path).returncode == 0
    text = (tmp_path / "r.html").read_text()
    assert "harmless select ROWS --scores s.jsonl -o kept.jsonl --above" in text
    assert "ROWS stands for the inputs of the run, in their order." in text
    (tmp_path / "part 3.jsonl").unlink()
    done = harmless(*asked, cwd=tmp_path)
    assert "part 3.jsonl is not where it was, or has changed" in done.stderr
    taken = harmless(*asked[:3], "s.rejects.jsonl", cwd=tmp_path)
    assert (taken.returncode, "is read for the report" in taken.stderr) == (1, True)
    stdin = harmless(*asked[:3], "r2.html", "--rows", "-", cwd=tmp_path)
    assert (stdin.returncode, "can be read only once" in stdin.stderr) == (1, True)

"""The command writes every form, joins, selects, and says so when there is nothing left to do."""

import json
from pathlib import Path

import pytest

from forms import FORMS, make_rows
from processes import Harmless
from reading import names_in, read_rows

DEMO = ("--model", "demo")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    rows = make_rows(40)
    rows[5]["output"] = None
    return FORMS["rows.jsonl"](rows, tmp_path)


def test_join_then_select(tmp_path: Path, rows: Path, harmless: Harmless) -> None:
    done = harmless("score", rows, "-o", "o.jsonl", "--join", *DEMO, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert len(read_rows(tmp_path / "o.jsonl")) == 40
    done = harmless("select", "o.jsonl", "-o", "kept.jsonl", "--top", "50%", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    kept = read_rows(tmp_path / "kept.jsonl")
    low, high = (f(row["harmless_score"] for row in kept) for f in (min, max))
    assert done.stderr == (
        f"kept 20 of 40 rows in kept.jsonl, scores from {low:.6g} to {high:.6g}, "
        "1 rows have no score\n"
    )
    done = harmless("select", "o.jsonl", "-o", "kept.jsonl", "--bottom", "1", cwd=tmp_path)
    assert done.returncode == 1
    assert "kept.jsonl already exists\nhint: --overwrite replaces it" in done.stderr
    done = harmless("select", "o.jsonl", "-o", "none.jsonl", "--above", "1e9", cwd=tmp_path)
    assert done.stderr.startswith("kept 0 of 40 rows in none.jsonl, all scores are from ")
    assert (tmp_path / "none.jsonl").read_bytes() == b""
    assert not [name for name in names_in(tmp_path) if name.endswith(".made")]


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--top", "1", "--bottom", "1"],
        ["--top", "1", "--above", "0"],
        ["--top", "many"],
        ["--above", "nan"],
    ],
)
def test_which_rows_to_keep_is_said_in_one_way(
    options: list[str], tmp_path: Path, rows: Path, harmless: Harmless
) -> None:
    done = harmless("select", rows, "-o", "kept.jsonl", *options, cwd=tmp_path)
    assert done.returncode == 2
    assert "error: " in done.stderr
    assert names_in(tmp_path) == [rows.name]


def test_a_finished_run_is_not_an_error(tmp_path: Path, rows: Path, harmless: Harmless) -> None:
    command = ("score", rows.name, "-o", "new/o.parquet", "--resume", *DEMO)
    assert harmless(*command, cwd=tmp_path).returncode == 3
    done = harmless(*command, cwd=tmp_path)
    assert done.returncode == 0
    assert "already complete: 39 rows scored, 1 rejected, in new/o.parquet" in done.stderr
    done = harmless(*command, "--details", cwd=tmp_path)
    assert done.returncode == 1
    assert "is complete, but not by this command: details was False and is True" in done.stderr
    assert json.loads((tmp_path / "new" / "o.parquet.run.json").read_bytes())["lines"] == 40


def test_options_that_contradict_each_other(tmp_path: Path, rows: Path, harmless: Harmless) -> None:
    for options, message in (
        (["--score-column", "s"], "hint: add --join"),
        (["--join", "--details"], "details and join exclude each other"),
        (["--join", "--score-column", ""], "score_column is empty"),
    ):
        done = harmless("score", rows, "-o", "o.jsonl", *options, *DEMO, cwd=tmp_path)
        assert done.returncode == 2
        assert message in done.stderr
    done = harmless("score", rows, "-o", "o.jsonl.bz2", *DEMO, cwd=tmp_path)
    assert done.returncode == 1
    assert "hint: outputs are .jsonl, .csv and .tsv" in done.stderr
    done = harmless("score", "-", "-o", "o.jsonl", "--join", *DEMO, cwd=tmp_path, input="")
    assert done.returncode == 1
    assert "- can be read only once" in done.stderr


def test_a_folder_keeps_inputs_apart(tmp_path: Path, rows: Path, harmless: Harmless) -> None:
    other = tmp_path / "other.csv"
    other.write_text("instruction,output\na,b\n")
    done = harmless("score", rows, other, "-o", "out/", "--join", *DEMO, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "out/_rejects.jsonl" in done.stderr
    assert names_in(tmp_path / "out") == [
        "_rejects.jsonl", "_run.json", "other.csv", "rows.jsonl",
    ]  # fmt: skip
    assert (tmp_path / "out" / "other.csv").read_text().startswith("instruction,output,harmless_")

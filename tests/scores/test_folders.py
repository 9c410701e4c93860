"""A folder as the output: a file for each input, under its name, and nothing else is touched."""

from pathlib import Path

import pytest
from pyarrow import parquet

from forms import FORMS, jsonl, make_rows
from harmless_runtime.errors import OutputError
from harmless_runtime.output.checks import check_output
from harmless_runtime.pipeline import score_files
from reading import names_in, read_rows
from runs import cpu_engine, make_run

ROWS = make_rows(90)


def files_in(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("join", [None, "s"])
def test_each_input_has_its_output(tmp_path: Path, join: str | None) -> None:
    source = FORMS["folder"](ROWS, tmp_path)
    (source / "a.jsonl").write_bytes(jsonl(ROWS[:30]) + b"oops\n")
    engine = cpu_engine(window_rows=25)
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    score_files(make_run(source, out, is_folder=True, join=join), engine)
    assert files_in(out) == [
        "_rejects.jsonl", "_run.json", "a.jsonl", "b.jsonl.gz", "deep/c.parquet", "mine.txt",
    ]  # fmt: skip
    found = [*read_rows(out / "a.jsonl"), *parquet.read_table(out / "deep/c.parquet").to_pylist()]
    assert [row["id"] for row in found] == [row["id"] for row in ROWS[:30] + ROWS[60:]]
    if join:
        scores = [row.pop("s") for row in found]
        assert None not in scores
        assert found == ROWS[:30] + ROWS[60:]
    (reject,) = read_rows(out / "_rejects.jsonl")
    assert reject["line"] == 31
    with pytest.raises(OutputError, match="already exists"):
        check_output(make_run(source, out, is_folder=True, join=join))
    before = (out / "a.jsonl").read_bytes()
    assert score_files(
        make_run(source, out, is_folder=True, join=join, existing="resume"), engine
    ).is_old
    score_files(make_run(source, out, is_folder=True, join=join, existing="overwrite"), engine)
    assert (out / "a.jsonl").read_bytes() == before
    assert (out / "mine.txt").read_text() == "mine"


def test_outputs_in_a_folder_of_inputs_are_no_inputs(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(jsonl(ROWS) + b"oops\n")
    engine = cpu_engine()
    for name in ("scores.jsonl", "joined.parquet"):
        out = tmp_path / name
        assert score_files(make_run(tmp_path, out), engine).tally.rows == 90
        assert score_files(make_run(tmp_path, out, existing="resume"), engine).is_old
        assert score_files(make_run(tmp_path, out, existing="overwrite"), engine).tally.rows == 90
    assert names_in(tmp_path) == [
        "a.jsonl", "joined.parquet", "joined.parquet.rejects.jsonl", "joined.parquet.run.json",
        "scores.jsonl", "scores.jsonl.run.json", "scores.rejects.jsonl",
    ]  # fmt: skip


@pytest.mark.parametrize("named", ["in", "in/", "."])
def test_a_folder_of_outputs_in_a_folder_of_inputs_is_no_input(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "in"
    rows.mkdir()
    (rows / "a.jsonl").write_bytes(jsonl(ROWS) + b"oops\n")
    (rows / "_hidden.jsonl").write_bytes(jsonl(ROWS))
    monkeypatch.chdir(rows if named == "." else tmp_path)
    engine = cpu_engine()
    for existing, is_old in (("refuse", False), ("resume", True), ("overwrite", False)):
        run = make_run([named], rows / "out", is_folder=True, existing=existing)
        summary = score_files(run, engine)
        assert (summary.tally.rows, summary.is_old) == (90, is_old)
    assert files_in(rows / "out") == ["_rejects.jsonl", "_run.json", "a.jsonl"]
    # The folder itself may be read.
    joined = make_run(rows, tmp_path / "joined", is_folder=True, join="s")
    score_files(joined, engine)
    assert score_files(make_run(tmp_path / "joined", tmp_path / "o.jsonl"), engine).tally.rows == 90


def test_overwritten_folder_holds_the_new_run_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = tmp_path / "in"
    rows.mkdir()
    for name in ("a", "b", "c", "d"):
        (rows / f"{name}.jsonl").write_bytes(jsonl(ROWS[:9]) + b"oops\n")
    engine = cpu_engine()
    out = tmp_path / "out"
    score_files(make_run(rows, out, is_folder=True), engine)
    (out / "c.jsonl").write_text("mine by now")
    (out / "mine.jsonl").write_text("mine")
    for name in ("b", "c", "d"):
        (rows / f"{name}.jsonl").unlink()
    (rows / "a.jsonl").write_bytes(jsonl(ROWS[:5]))
    score_files(make_run(rows, out, is_folder=True, existing="overwrite"), engine)
    assert files_in(out) == ["_run.json", "a.jsonl", "c.jsonl", "mine.jsonl"]
    assert len(read_rows(out / "a.jsonl")) == 5
    assert (out / "c.jsonl").read_text() == "mine by now"
    assert "c.jsonl is of an older run, and was changed" in caplog.text


@pytest.mark.parametrize("name", ["_rejects.jsonl", "_scores", "_scores.partial", "a.jsonl.made"])
def test_inputs_with_the_names_of_own_files(name: str, tmp_path: Path) -> None:
    for each in (name, "a.jsonl"):
        (tmp_path / each).write_bytes(jsonl(ROWS))
    sources = [tmp_path / name, tmp_path / "a.jsonl"]
    with pytest.raises(OutputError, match="a name that the run needs for its own files"):
        check_output(make_run(sources, tmp_path / "out", is_folder=True))

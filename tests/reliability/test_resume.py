"""Resuming writes the same bytes as an uninterrupted run, or says in a sentence why it cannot."""

import os
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from interrupted import COUNT, resume, row, score, stop_after, write_rows

from harmless_runtime.config import make_config
from harmless_runtime.errors import InputError, OutputError
from harmless_runtime.model.engine import Engine
from harmless_runtime.model.load import load_engine
from harmless_runtime.output.paths import OutputPaths
from harmless_runtime.output.state import read_state
from processes import Harmless
from reading import names_in, read_folder, read_outputs
from runs import cpu_engine, with_limits


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.jsonl")


@pytest.fixture(scope="module")
def engine() -> Engine:
    """The bundled model with windows of 60 lines."""
    return cpu_engine(window_rows=60)


def load(**config: Any) -> Engine:
    engine = load_engine(make_config({"model": "demo", "provider": "cpu", **config}))
    return with_limits(engine, window_rows=60)


@pytest.mark.parametrize("after", [1, 100, 333])
def test_a_resumed_run_writes_the_same_bytes(
    after: int, rows: Path, tmp_path: Path, engine: Engine
) -> None:
    whole = score(rows, tmp_path / "whole.jsonl", engine)
    out = tmp_path / "o.jsonl"
    stop_after(after, rows, out, engine, details=False)
    assert not out.exists()
    rows_before: list[int] = []
    summary = resume(rows, out, engine, on_progress=lambda tally: rows_before.append(tally.rows))
    assert read_outputs(out) == read_outputs(tmp_path / "whole.jsonl")
    assert summary.tally == whole.tally
    assert summary.resumed.rows == rows_before[0]
    assert after - 60 - 8 <= rows_before[0] <= after, "at most the interrupted window is repeated"
    assert sorted(p.name for p in tmp_path.glob("o.*")) == [
        "o.jsonl",
        "o.jsonl.run.json",
        "o.rejects.jsonl",
    ]


def test_progress_and_summary_count_the_same(rows: Path, tmp_path: Path, engine: Engine) -> None:
    seen: list[dict[str, int]] = []
    summary = score(rows, tmp_path / "o", engine, lambda tally: seen.append(asdict(tally)))
    assert seen[0] == dict.fromkeys(seen[0], 0)
    assert seen[-1] == asdict(summary.tally)
    assert seen == sorted(seen, key=lambda tally: tally["rows"]), "it never counts backwards here"
    assert summary.tally.input_bytes == rows.stat().st_size
    assert (summary.tally.rows, summary.tally.rejected) == (COUNT - 8, 8)


def test_only_a_run_with_the_same_input_model_and_settings_is_resumed(
    rows: Path, tmp_path: Path, engine: Engine
) -> None:
    out = tmp_path / "o.jsonl"
    stop_after(100, rows, out, engine)
    before = read_folder(tmp_path)
    text = rows.read_text()

    def refused(match: str, sources: Any, other: Engine, **options: Any) -> None:
        with pytest.raises(OutputError, match=match):
            resume(sources, out, other, **options)
        rows.write_text(text)
        assert read_folder(tmp_path) == before

    refused("details was False and is True", rows, engine, details=True)
    refused("max_length was 1024 and is 64", rows, load(max_length=64))
    small = load(batch_size=1, max_length=128)
    refused("the batches' limits was .*512.* and is .*128", rows, small)
    refused("the input was .* and is", [rows, rows], engine)
    rows.write_text(text + row(1) + "\n")
    refused(f"the size of {rows} was {len(text)} and is", rows, engine)
    rows.write_text(text.replace("Add 3.", "Sub 3."))
    refused("the first .* lines of the input are not those that were scored", rows, engine)
    rows.write_text("\n" * (len(text) - len(row(0)) - 1) + row(0) + "\n")
    refused("the first .* lines of the input are not", rows, engine)
    # A change beyond what was scored is no obstacle: those rows are scored as they are now.
    rows.write_text(text.replace("Add 399.", "Sub 399."))
    resume(rows, out, engine)
    assert len(out.read_bytes().splitlines()) == COUNT - 8


def test_damaged_states_are_refused(rows: Path, tmp_path: Path, engine: Engine) -> None:
    out = tmp_path / "o.jsonl"
    stop_after(100, rows, out, engine)
    paths = OutputPaths(out)
    state, partial = paths.state.read_bytes(), paths.scores.partial.read_bytes()
    digits = re.compile(rb'("scores":{"size":)[0-9]+')
    assert digits.search(state)
    for content, match in (
        (b"", "is damaged"),
        (state[:40], "is damaged"),
        (b"[" * 10**6, "is damaged"),
        (digits.sub(rb"\g<1>1", state), "is damaged"),
        (state.replace(b'"complete":false', b'"complete":true'), "is damaged"),
    ):
        paths.state.write_bytes(content)
        with pytest.raises(OutputError, match=match):
            resume(rows, out, engine)
    paths.state.write_bytes(state)
    paths.scores.partial.write_bytes(partial[:10])
    with pytest.raises(OutputError, match="has lost or changed some of its first"):
        resume(rows, out, engine)
    # Bytes beyond the claim, which a crash may leave, are cut off.
    paths.scores.partial.write_bytes(partial + b'{"id": 1, "sc')
    resume(rows, out, engine)
    score(rows, tmp_path / "whole.jsonl", engine)
    assert read_outputs(out) == read_outputs(tmp_path / "whole.jsonl")


# What an interrupted run of an older release left, when the state had format 1.
FORMAT_1 = Path(__file__).with_name("state-format-1")


def test_a_state_of_an_older_format_is_refused(tmp_path: Path, engine: Engine) -> None:
    folder = tmp_path / "left"
    shutil.copytree(FORMAT_1, folder)
    before = read_folder(folder)
    rows, out = folder / "rows.jsonl", folder / "o.jsonl"
    with pytest.raises(OutputError, match=r"has state format 1, and this .* reads format 3\nhint"):
        resume(rows, out, engine)
    assert read_folder(folder) == before
    score(rows, out, engine, existing="overwrite")
    assert names_in(folder) == ["o.jsonl", "o.jsonl.run.json", "rows.jsonl"]
    assert len(out.read_bytes().splitlines()) == 10


def test_resume_starts_a_run_if_there_is_none(rows: Path, tmp_path: Path, engine: Engine) -> None:
    out = tmp_path / "o.jsonl"
    resume(rows, out, engine)
    whole = read_outputs(out)
    assert resume(rows, out, engine).is_old
    begun = OutputPaths(tmp_path / "p.jsonl").scores.partial
    begun.touch()  # a crash before the first results
    resume(rows, tmp_path / "p.jsonl", engine)
    assert read_outputs(tmp_path / "p.jsonl") == whole


def test_overwrite_forgets_the_interrupted_run(rows: Path, tmp_path: Path, engine: Engine) -> None:
    out = tmp_path / "o.jsonl"
    stop_after(100, rows, out, engine)
    rows.write_text(row(1) + "\n")
    with pytest.raises(OutputError, match="`resume` continues an interrupted run"):
        score(rows, out, engine)
    score(rows, out, engine, existing="overwrite")
    assert len(out.read_bytes().splitlines()) == 1
    assert names_in(tmp_path) == ["o.jsonl", "o.jsonl.run.json", "rows.jsonl"]


def test_an_overwriting_run_can_be_resumed_from_its_first_moment_on(
    rows: Path, tmp_path: Path, engine: Engine
) -> None:
    out = tmp_path / "o.jsonl"
    out.write_text("an older run's")
    stop_after(0, rows, out, engine, existing="overwrite")
    assert out.read_text() == "an older run's"
    resume(rows, out, engine)
    score(rows, tmp_path / "whole.jsonl", engine)
    assert read_outputs(out) == read_outputs(tmp_path / "whole.jsonl")


def test_rejects_without_a_state_are_left_alone(rows: Path, tmp_path: Path, engine: Engine) -> None:
    OutputPaths(tmp_path / "o.jsonl").rejects.final.write_text("precious")
    with pytest.raises(OutputError, match="there is no state file to resume from"):
        resume(rows, tmp_path / "o.jsonl", engine)


def test_an_input_whose_name_is_not_utf8(rows: Path, tmp_path: Path, engine: Engine) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9.jsonl")
    rows.rename(odd)
    out = tmp_path / "o.jsonl"
    stop_after(100, odd, out, engine)
    resume(odd, out, engine)
    assert len(out.read_bytes().splitlines()) == COUNT - 8
    assert b'"source":"' + str(tmp_path).encode() + rb"/caf\\xe9.jsonl" in read_outputs(out)[1]


def test_an_input_that_cannot_be_read_to_its_end(tmp_path: Path, engine: Engine) -> None:
    first, second, out = write_rows(tmp_path / "a", 1100), tmp_path / "none", tmp_path / "o"
    second.write_text(row(3) + "\n")
    with pytest.raises(InputError, match="cannot read"):
        score([first, second], out, engine, lambda _: second.unlink(missing_ok=True))
    state = read_state(OutputPaths(out).state)
    assert state is not None
    assert 500 < state.lines < 1100
    with pytest.raises(InputError, match="cannot read"):
        resume([first, second], out, engine)
    second.write_text(row(3) + "\n")
    resume([first, second], out, engine)
    assert len(out.read_bytes().splitlines()) == 1101 - 22


def test_resume_and_overwrite_exclude_each_other(
    rows: Path, tmp_path: Path, harmless: Harmless
) -> None:
    out = tmp_path / "o"
    done = harmless("score", rows, "-o", out, "--resume", "--overwrite", "--model", "demo")
    assert done.returncode == 2
    assert done.stderr == (
        "error: overwrite and resume exclude each other\n"
        "hint: --resume continues an interrupted run, --overwrite starts again\n"
    )
    assert not out.exists()


def test_strict_refuses_to_resume_a_run_with_rejects(
    rows: Path, tmp_path: Path, engine: Engine
) -> None:
    stop_after(100, rows, tmp_path / "o.jsonl", engine)
    with pytest.raises(InputError, match="an earlier run had 2 rejects"):
        resume(rows, tmp_path / "o.jsonl", engine, strict=True)

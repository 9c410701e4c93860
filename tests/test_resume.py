"""`--resume`: the same bytes as an undisturbed run makes, or a sentence that says why not."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from harmless_runtime.config import make_config
from harmless_runtime.errors import InputError, OutputError
from harmless_runtime.model.engine import Engine, load_engine
from harmless_runtime.output import writer as commit
from harmless_runtime.output.paths import OutputPaths
from harmless_runtime.output.state import read_state
from harmless_runtime.pipeline import Summary, Tally, score_files
from kill import program

COUNT = 400


def row(number: int) -> str:
    if number % 50 == 7:
        return "oops"
    # Duplicate and missing ids are no obstacle.
    return json.dumps({"id": number % 5, "instruction": f"Add {number}.", "output": "one " * 9})


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"{row(n)}\n" for n in range(COUNT)))
    return path


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    """The bundled model with windows of 60 lines, each committed."""
    monkeypatch.setattr(commit, "_COMMIT_SECONDS", 0)
    return load(window_rows=60)


def load(window_rows: int, **config: Any) -> Engine:
    engine = load_engine(make_config({"model": "demo", "provider": "cpu", **config}))
    return replace(engine, limits=replace(engine.limits, window_rows=window_rows))


class StopError(Exception):
    """Raised in the middle of a run."""


def stop_after(rows: int, sources: list[str], out: Path, engine: Engine, **options: Any) -> None:
    def progress(tally: Tally) -> None:
        if tally.rows >= rows:
            raise StopError

    with pytest.raises(StopError):
        score_files(sources, out, engine, on_progress=progress, **options)


def read(out: Path) -> tuple[bytes, bytes]:
    paths = OutputPaths(out)
    return out.read_bytes(), paths.rejects.read_bytes()


def resume(sources: list[str], out: Path, engine: Engine, **options: Any) -> Summary:
    return score_files(sources, out, engine, resume=True, **options)


@pytest.mark.parametrize("after", [1, 100, 333])
def test_a_resumed_run_makes_the_same_bytes(
    after: int, rows: Path, tmp_path: Path, engine: Engine
) -> None:
    whole = score_files([str(rows)], tmp_path / "whole.jsonl", engine)
    out = tmp_path / "o.jsonl"
    stop_after(after, [str(rows)], out, engine, details=False)
    assert not out.exists()
    rows_before: list[int] = []
    summary = score_files(
        [str(rows)], out, engine, resume=True, on_progress=lambda t: rows_before.append(t.rows)
    )
    assert read(out) == read(tmp_path / "whole.jsonl")
    assert summary.tally == whole.tally
    assert summary.resumed.rows == rows_before[0]
    assert after - 60 - 8 <= rows_before[0] <= after, "at most the interrupted window is repeated"
    assert sorted(p.name for p in tmp_path.glob("o.*")) == ["o.jsonl", "o.rejects.jsonl"]


def test_what_is_not_changed_may_be_resumed_and_what_is_changed_not(
    rows: Path, tmp_path: Path, engine: Engine
) -> None:
    out = tmp_path / "o.jsonl"
    stop_after(100, [str(rows)], out, engine)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    text = rows.read_text()

    def refused(match: str, sources: list[str], other: Engine, **options: Any) -> None:
        with pytest.raises(OutputError, match=match):
            resume(sources, out, other, **options)
        rows.write_text(text)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    source = [str(rows)]
    refused("--details was False and is True", source, engine, details=True)
    refused("max_length was 1024 and is 64", source, load(60, max_length=64))
    refused(
        "the batches' limits was .*512.* and is .*128",
        source,
        load(60, batch_size=1, max_length=128),
    )
    refused("the input was .* and is", [str(rows), str(rows)], engine)
    rows.write_text(text + row(1) + "\n")
    refused(f"the size of {rows} was {len(text)} and is", source, engine)
    rows.write_text(text.replace("Add 3.", "Sub 3."))
    refused("the first .* lines of the input are not those that were scored", source, engine)
    rows.write_text("\n" * (len(text) - len(row(0)) - 1) + row(0) + "\n")
    refused("the first .* lines of the input are not", source, engine)
    # A change beyond what was scored is no obstacle: those rows are scored as they are now.
    rows.write_text(text.replace("Add 399.", "Sub 399."))
    resume(source, out, engine)
    assert len(out.read_bytes().splitlines()) == COUNT - 8


def test_states_that_are_damaged(rows: Path, tmp_path: Path, engine: Engine) -> None:
    out = tmp_path / "o.jsonl"
    stop_after(100, [str(rows)], out, engine)
    paths = OutputPaths(out)
    state, partial = paths.state.read_bytes(), paths.partials[0].read_bytes()
    digits = re.compile(rb'("scores_bytes":)[0-9]+')
    for content, match in (
        (b"", "is damaged"),
        (state[:40], "is damaged"),
        (b"[" * 10**6, "is damaged"),
        (state.replace(b'"format_version":1', b'"format_version":2'), "another release"),
        (digits.sub(rb"\g<1>1", state), "is damaged"),
        (state.replace(b'"complete":false', b'"complete":true'), "is damaged"),
    ):
        paths.state.write_bytes(content)
        with pytest.raises(OutputError, match=match):
            resume([str(rows)], out, engine)
    paths.state.write_bytes(state)
    paths.partials[0].write_bytes(partial[:10])
    with pytest.raises(OutputError, match="has lost or changed some of its first"):
        resume([str(rows)], out, engine)
    # More than is claimed is what a crash leaves: cut off.
    paths.partials[0].write_bytes(partial + b'{"id": 1, "sc')
    resume([str(rows)], out, engine)
    score_files([str(rows)], tmp_path / "whole.jsonl", engine)
    assert read(out) == read(tmp_path / "whole.jsonl")


def test_resume_without_anything_to_resume(rows: Path, tmp_path: Path, engine: Engine) -> None:
    out = tmp_path / "o.jsonl"
    resume([str(rows)], out, engine)
    whole = read(out)
    with pytest.raises(OutputError, match="is complete, so there is nothing to resume"):
        resume([str(rows)], out, engine)
    OutputPaths(tmp_path / "p.jsonl").partials[0].write_bytes(b"torn before the first commit")
    resume([str(rows)], tmp_path / "p.jsonl", engine)
    assert read(tmp_path / "p.jsonl") == whole


def test_overwrite_forgets_the_interrupted_run(rows: Path, tmp_path: Path, engine: Engine) -> None:
    out = tmp_path / "o.jsonl"
    stop_after(100, [str(rows)], out, engine)
    rows.write_text(row(1) + "\n")
    with pytest.raises(OutputError, match="pass --resume to continue"):
        score_files([str(rows)], out, engine)
    score_files([str(rows)], out, engine, overwrite=True)
    assert len(out.read_bytes().splitlines()) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["o.jsonl", "rows.jsonl"]


def test_an_overwriting_run_is_resumed_from_its_first_moment_on(
    rows: Path, tmp_path: Path, engine: Engine
) -> None:
    out = tmp_path / "o.jsonl"
    out.write_text("an older run's")
    stop_after(0, [str(rows)], out, engine, overwrite=True)
    assert out.read_text() == "an older run's"
    resume([str(rows)], out, engine)
    score_files([str(rows)], tmp_path / "whole.jsonl", engine)
    assert read(out) == read(tmp_path / "whole.jsonl")


def test_rejects_without_scores_are_not_resumed(rows: Path, tmp_path: Path, engine: Engine) -> None:
    OutputPaths(tmp_path / "o.jsonl").rejects.write_text("precious")
    with pytest.raises(OutputError, match="is of no run that could be resumed"):
        resume([str(rows)], tmp_path / "o.jsonl", engine)


def test_a_name_that_is_taken_at_the_end_costs_nothing(
    rows: Path, tmp_path: Path, engine: Engine
) -> None:
    out = tmp_path / "o.jsonl"
    appeared: list[Path] = []

    def appear(tally: Tally) -> None:
        if tally.rows > 300 and not appeared:
            out.write_text("precious")
            appeared.append(out)

    with pytest.raises(OutputError, match="--resume names them once it is gone"):
        score_files([str(rows)], out, engine, on_progress=appear)
    out.rename(tmp_path / "precious")
    summary = resume([str(rows)], out, engine)
    assert summary.resumed == summary.tally, "nothing was done again"
    assert len(out.read_bytes().splitlines()) == COUNT - 8


def test_an_input_whose_name_is_not_utf8(rows: Path, tmp_path: Path, engine: Engine) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9.jsonl")
    rows.rename(odd)
    stop_after(100, [str(odd)], tmp_path / "o.jsonl", engine)
    resume([str(odd)], tmp_path / "o.jsonl", engine)
    assert len((tmp_path / "o.jsonl").read_bytes().splitlines()) == COUNT - 8


def test_an_input_that_cannot_be_read_to_its_end(tmp_path: Path, engine: Engine) -> None:
    first = tmp_path / "a"
    first.write_text("".join(f"{row(n)}\n" for n in range(1100)))
    second = tmp_path / "none"
    second.write_text(row(3) + "\n")
    with pytest.raises(InputError, match="cannot read"):
        score_files(
            [str(first), str(second)],
            tmp_path / "o",
            engine,
            on_progress=lambda _: second.unlink(missing_ok=True),
        )
    state = read_state(OutputPaths(tmp_path / "o").state)
    assert state is not None
    assert 500 < state.lines < 1100
    with pytest.raises(InputError, match="cannot read"):
        resume([str(first), str(second)], tmp_path / "o", engine)
    second.write_text(row(3) + "\n")
    resume([str(first), str(second)], tmp_path / "o", engine)
    assert len((tmp_path / "o").read_bytes().splitlines()) == 1101 - 22


def start(
    *arguments: str | Path, stderr: Any = subprocess.PIPE, **options: Any
) -> subprocess.Popen[bytes]:
    """Start `harmless` with small windows."""
    command = [sys.executable, "-c", program(60), *arguments]
    return subprocess.Popen(command, stderr=stderr, **options)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_leave_a_run_that_can_go_on(
    number: signal.Signals, code: int, rows: Path, tmp_path: Path
) -> None:
    rows.write_text("".join(f"{row(n)}\n" for n in range(10_000)))
    out = tmp_path / "o.jsonl"
    arguments = ("score", rows, "-o", out, "--model", "demo")
    process = start(*arguments)
    wait_for(OutputPaths(out).state)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code, errors
    said = errors.decode()
    assert (
        f"lines are done and kept; to go on: harmless score --resume {rows} -o {out} --model demo"
        in said
    )
    assert "Traceback" not in said
    done = start(*arguments, "--resume")
    assert done.wait(timeout=120) == 3, done.communicate()
    assert done.stderr is not None
    done.stderr.close()
    whole = start("score", rows, "-o", tmp_path / "whole.jsonl", "--model", "demo")
    whole.communicate()
    assert read(out) == read(tmp_path / "whole.jsonl")
    assert len(out.read_bytes().splitlines()) == 10_000 * 49 // 50


def test_standard_input_is_resumed_by_the_same_bytes(rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    process = start("score", "-", "-o", out, "--model", "demo", stdin=subprocess.PIPE)
    assert process.stdin is not None
    text = rows.read_bytes() * 10
    process.stdin.write(text[: len(text) // 2])
    process.stdin.flush()
    wait_for(OutputPaths(out).state)
    process.send_signal(signal.SIGTERM)
    process.stdin.close()
    process.wait(timeout=30)
    assert process.stderr is not None
    process.stderr.close()
    options = {"stdin": subprocess.PIPE}
    again = start("score", "-", "-o", out, "--model", "demo", "--resume", **options)
    _, errors = again.communicate(text.replace(b"Add 1.", b"Sub 1."), timeout=60)
    assert again.returncode == 1
    assert b"are not those that were scored" in errors
    again = start("score", "-", "-o", out, "--model", "demo", "--resume", **options)
    _, errors = again.communicate(text, timeout=60)
    assert again.returncode == 3, errors
    assert len(out.read_bytes().splitlines()) == 10 * (COUNT - 8)


def test_resume_and_overwrite_are_not_both_possible(
    rows: Path, tmp_path: Path, harmless: Run
) -> None:
    out = tmp_path / "o"
    done = harmless("score", rows, "-o", out, "--resume", "--overwrite", "--model", "demo")
    assert done.returncode == 2
    assert "--resume goes on, --overwrite starts again" in done.stderr
    assert not out.exists()


def test_results_that_were_changed_are_not_gone_on_with(
    rows: Path, tmp_path: Path, engine: Engine
) -> None:
    out = tmp_path / "o.jsonl"
    stop_after(100, [str(rows)], out, engine)
    partial = OutputPaths(out).partials[0]
    partial.write_bytes(partial.read_bytes().replace(b'"score": ', b'"score":9', 1))
    with pytest.raises(OutputError, match="has lost or changed some of its first"):
        resume([str(rows)], out, engine)


@pytest.mark.parametrize("step", ["removed", "replaced"])
def test_results_that_vanish_during_the_run_are_missed(
    step: str, rows: Path, tmp_path: Path, engine: Engine
) -> None:
    out = tmp_path / "o.jsonl"
    partial = OutputPaths(out).partials[0]

    def vanish(tally: Tally) -> None:
        if tally.rows > 300:
            partial.unlink(missing_ok=True)
            if step == "replaced":
                partial.touch()

    with pytest.raises(OutputError, match="was removed or replaced during the run"):
        score_files([str(rows)], out, engine, on_progress=vanish)
    assert not out.exists()


@pytest.mark.parametrize("content", [None, b"", b"less"])
def test_complete_results_that_vanish_before_they_are_named(
    content: bytes | None, rows: Path, tmp_path: Path, engine: Engine
) -> None:
    out = tmp_path / "o.jsonl"
    partial = OutputPaths(out).partials[0]
    with pytest.raises(OutputError, match="has appeared"):
        score_files([str(rows)], out, engine, on_progress=lambda _: out.touch())
    out.unlink()
    partial.unlink()
    if content is not None:
        partial.write_bytes(content)
    with pytest.raises(OutputError, match="has lost some of its"):
        resume([str(rows)], out, engine)
    assert not out.exists()


def test_strict_takes_no_rejects_of_an_earlier_run(
    rows: Path, tmp_path: Path, engine: Engine
) -> None:
    stop_after(100, [str(rows)], tmp_path / "o.jsonl", engine)
    with pytest.raises(InputError, match="2 lines were rejected before the run was interrupted"):
        resume([str(rows)], tmp_path / "o.jsonl", engine, strict=True)


def test_a_second_signal_changes_nothing(rows: Path, tmp_path: Path) -> None:
    rows.write_text("".join(f"{row(n)}\n" for n in range(10_000)))
    for pause in (0.0, 0.01, 0.03):
        out = tmp_path / f"{pause}.jsonl"
        process = start("score", rows, "-o", out, "--model", "demo")
        wait_for(OutputPaths(out).state)
        process.send_signal(signal.SIGTERM)
        time.sleep(pause)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        # Where both come before the first is seen, either may be.
        assert process.returncode in (130, 143), errors
        assert b"Traceback" not in errors


def test_messages_that_nobody_reads_end_no_run(rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    arguments = ("score", rows, "-o", out, "--model", "demo", "--max-length", "5")
    with Path("/dev/full").open("w") as full:
        process = start(*arguments, stderr=full)
        assert process.wait(timeout=60) == 3
    assert len(out.read_bytes().splitlines()) == COUNT - 8

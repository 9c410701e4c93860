"""Real processes that are interrupted: what they say, how they end, and that they can resume."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from interrupted import COUNT, write_rows
from kill import program

from harmless_runtime.output.paths import OutputPaths
from processes import wait_for
from reading import read_outputs


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.jsonl")


def start(
    *arguments: str | Path, stderr: Any = subprocess.PIPE, **options: Any
) -> subprocess.Popen[bytes]:
    """Start `harmless` with small windows."""
    command = [sys.executable, "-c", program(60), *arguments]
    return subprocess.Popen(command, stderr=stderr, **options)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_a_signal_ends_can_be_resumed(
    number: signal.Signals, code: int, rows: Path, tmp_path: Path
) -> None:
    write_rows(rows, 10_000)
    out = tmp_path / "o.jsonl"
    arguments = ("score", rows, "-o", out, "--model", "demo")
    process = start(*arguments)
    wait_for(OutputPaths(out).state)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code, errors
    said = errors.decode()
    assert "the results of the first " in said
    command = f"harmless score --resume {rows} -o {out} --model demo"
    assert f"hint: continue with {command}" in said
    assert "Traceback" not in said
    done = start(*arguments, "--resume")
    assert done.wait(timeout=120) == 3, done.communicate()
    assert done.stderr is not None
    done.stderr.close()
    whole = start("score", rows, "-o", tmp_path / "whole.jsonl", "--model", "demo")
    whole.communicate()
    assert read_outputs(out) == read_outputs(tmp_path / "whole.jsonl")
    assert len(out.read_bytes().splitlines()) == 10_000 * 49 // 50


def test_standard_input_is_resumed_with_the_same_bytes(rows: Path, tmp_path: Path) -> None:
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


def test_a_second_signal_changes_nothing(rows: Path, tmp_path: Path) -> None:
    write_rows(rows, 10_000)
    for pause in (0.0, 0.01, 0.03, 0.1):
        out = tmp_path / f"{pause}.jsonl"
        process = start("score", rows, "-o", out, "--model", "demo")
        wait_for(OutputPaths(out).state)
        process.send_signal(signal.SIGTERM)
        time.sleep(pause)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        # If both come before the first is seen, either may be reported.
        assert process.returncode in (130, 143), errors
        assert b"Traceback" not in errors


def test_a_run_goes_on_if_its_messages_cannot_be_written(rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    arguments = ("score", rows, "-o", out, "--model", "demo", "--max-length", "5")
    with Path("/dev/full").open("w") as full:
        process = start(*arguments, stderr=full)
        assert process.wait(timeout=60) == 3
    assert len(out.read_bytes().splitlines()) == COUNT - 8

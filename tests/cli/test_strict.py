"""What a strict run advises works, if a person does just that."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from harmless_runtime.output.paths import OutputPaths, rejects_path
from processes import COMMAND, Harmless, wait_for

COUNT, BAD = 3000, 2501


def good(number: int) -> str:
    return json.dumps({"id": number, "instruction": f"Say {number}.", "output": "Fine, fine."})


def mend(rows: Path, count: int = COUNT) -> Path:
    """Write rows that can all be scored."""
    rows.write_text("".join(f"{good(n)}\n" for n in range(1, count + 1)))
    return rows


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    lines = [good(n) if n != BAD else "oops" for n in range(1, COUNT + 1)]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def advised(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the arguments of the command that is advised."""
    (found,) = re.findall("^hint: continue with harmless (.*)$", done.stderr, re.MULTILINE)
    return shlex.split(found)


def lines_of(out: Path) -> int:
    return out.read_bytes().count(b"\n")


def test_what_was_scored_is_kept_without_strict(
    rows: Path, tmp_path: Path, harmless: Harmless
) -> None:
    out, whole = tmp_path / "o.jsonl", tmp_path / "whole.jsonl"
    done = harmless("score", rows, "-o", out, "--model", "demo", "--strict")
    assert done.returncode == 1
    assert re.search(r"the results of the first [\d,]+ lines are on the disk", done.stderr)
    assert f"error: {rows}, line {BAD}: not valid JSON" in done.stderr
    assert (
        "hint: without --strict, such rows are set aside in a file of rejects; or mend the row, "
        "and --overwrite starts again\n"
    ) in done.stderr
    again = harmless(*advised(done))
    assert again.returncode == 3, again.stderr
    assert "resuming" in again.stderr
    assert (lines_of(out), lines_of(rejects_path(out))) == (COUNT - 1, 1)
    harmless("score", rows, "-o", whole, "--model", "demo")
    assert out.read_bytes() == whole.read_bytes()


def test_a_mended_row_and_overwrite(rows: Path, tmp_path: Path, harmless: Harmless) -> None:
    command = ("score", rows, "-o", tmp_path / "o.jsonl", "--model", "demo", "--strict")
    assert "and --overwrite starts again" in harmless(*command).stderr
    mend(rows)
    done = harmless(*command, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert lines_of(tmp_path / "o.jsonl") == COUNT


@pytest.mark.parametrize("is_whole", [False, True])
def test_an_earlier_run_that_was_not_strict(
    is_whole: bool, tmp_path: Path, harmless: Harmless
) -> None:
    """It has rejected a row, and is whole or was interrupted."""
    count = 500 if is_whole else 40_000
    rows = mend(tmp_path / "rows.jsonl", count)
    rows.write_text("oops\n" + rows.read_text())
    out = tmp_path / "o.jsonl"
    command = ["score", str(rows), "-o", str(out), "--model", "demo"]
    earlier = subprocess.Popen([COMMAND, *command], stderr=subprocess.DEVNULL)
    if not is_whole:
        wait_for(OutputPaths(out).state)
        earlier.terminate()
    assert earlier.wait() == (3 if is_whole else 143)
    done = harmless(*command, "--resume", "--strict")
    assert done.returncode == 1
    assert "error: an earlier run had 1 rejects, but strict allows none" in done.stderr
    hint = "without --strict, --resume goes on; or mend the rows, and --overwrite starts again"
    assert f"hint: {hint}\n" in done.stderr
    assert "nothing to resume" not in done.stderr
    if not is_whole:
        assert advised(done) == ["score", "--resume", *command[1:]]
    again = harmless(*command, "--resume")
    assert again.returncode == (0 if is_whole else 3), again.stderr
    assert (lines_of(out), lines_of(rejects_path(out))) == (count, 1)
    mend(rows, count)
    done = harmless(*command, "--strict", "--overwrite")
    assert done.returncode == 0, done.stderr
    assert not rejects_path(out).exists()

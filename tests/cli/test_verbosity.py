"""`--quiet` and `--verbose`, and completion in a shell."""

import os
import subprocess
from pathlib import Path

import pytest

from processes import COMMAND, Harmless

ROWS = "".join(f'{{"id": {i}, "instruction": "Hi", "output": "o{i}"}}\n' for i in range(30))


@pytest.mark.parametrize("flag", ["--quiet", "-q"])
def test_quiet_prints_nothing_but_what_is_wrong(
    flag: str, tmp_path: Path, harmless: Harmless
) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "scores.jsonl"
    rows.write_text(ROWS)
    command = ("score", rows, "-o", out, "--model", "demo", flag)
    done = harmless(*command)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    again = harmless(*command)
    assert again.returncode == 1
    assert again.stderr.startswith("error: ")
    assert "hint: " in again.stderr
    rows.write_text(ROWS + "{broken\n")
    done = harmless(*command, "--overwrite")
    assert done.returncode == 3
    assert done.stderr.startswith("rows that could not be scored: 1")
    dry = harmless("score", rows, "--model", "demo", "--dry-run", flag)
    assert "as the model sees it" in dry.stderr


def test_verbose_prints_more_and_tracebacks(tmp_path: Path, harmless: Harmless) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "scores.jsonl"
    rows.write_text(ROWS)
    command = ("score", rows, "-o", out, "--model", "demo", "-v")
    done = harmless(*command)
    assert done.returncode == 0
    assert "batches at once, of at most 512 tokens" in done.stderr
    again = harmless(*command)
    assert again.returncode == 1
    assert "Traceback" in again.stderr
    assert "error: " in again.stderr


def test_a_shell_completes_subcommands_and_options() -> None:
    for words, expected in (("harmless ev", "eval"), ("harmless score --stre", "--streams")):
        env = os.environ | {
            "_HARMLESS_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
        }
        done = subprocess.run([COMMAND], env=env, capture_output=True, text=True, check=False)
        assert expected in done.stdout.split(), (done.stdout, done.stderr)

"""Kill a few real processes at random moments. `kill.py` here kills as many as it is told to."""

import subprocess
import sys
from pathlib import Path

import pytest
from kill import kill_again_and_again, write_rows

from forms import FORMS, make_rows

# Forms that are read by the same code as others.
ALIKE = {"rows.jsonl", "no-suffix", "skipped.zst", "semicolons.csv"}


def test_killed_runs_write_the_same_bytes_after_all(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", 6_000)
    counts = kill_again_and_again(tmp_path, rows, kills=2, longest=1.5)
    assert counts["kills"] >= 2
    assert counts["runs"] >= 1
    assert (tmp_path / "whole" / "o.rejects.jsonl").exists()


@pytest.mark.slow
@pytest.mark.parametrize("form", sorted(set(FORMS) - ALIKE))
def test_killed_runs_of_every_form(form: str, tmp_path: Path) -> None:
    rows = make_rows(6_000)
    for n in range(5, len(rows), 100):
        rows[n]["output"] = None
    assert kill_again_and_again(tmp_path, FORMS[form](rows, tmp_path), 2, 1.7)["kills"] >= 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["o.jsonl.zst", "o.parquet", "o.csv.gz"])
def test_killed_runs_that_join(name: str, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", 6_000)
    counts = kill_again_and_again(tmp_path, rows, 4, 3.0, name=name, options=("--join",))
    assert counts["kills"] >= 4


@pytest.mark.parametrize("script", ["fuzz", "kill", "soak"])
def test_the_long_runs_start_as_scripts(script: str, tmp_path: Path) -> None:
    command: list[str | Path] = [sys.executable, Path(__file__).with_name(f"{script}.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"python tests/reliability/{script}.py" in done.stdout

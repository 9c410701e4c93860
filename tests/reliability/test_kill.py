"""Kill a few real processes at random moments. `kill.py` here kills as many as it is told to."""

import subprocess
import sys
from pathlib import Path

import pytest
from kill import kill_again_and_again


def test_killed_runs_write_the_same_bytes_after_all(tmp_path: Path) -> None:
    counts = kill_again_and_again(tmp_path, kills=5, rows=6_000, longest=1.5)
    assert counts["kills"] >= 5
    assert counts["runs"] >= 1


@pytest.mark.parametrize("script", ["fuzz", "kill", "soak"])
def test_the_long_runs_start_as_scripts(script: str, tmp_path: Path) -> None:
    command: list[str | Path] = [sys.executable, Path(__file__).with_name(f"{script}.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"python tests/reliability/{script}.py" in done.stdout

"""Kill a few real processes at random moments. `kill.py` here kills as many as it is told to."""

from pathlib import Path

from kill import kill_again_and_again


def test_killed_runs_write_the_same_bytes_after_all(tmp_path: Path) -> None:
    counts = kill_again_and_again(tmp_path, kills=5, rows=6_000, longest=1.5)
    assert counts["kills"] >= 5
    assert counts["runs"] >= 1

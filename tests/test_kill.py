"""A few kills of real processes at random moments; `python tests/kill.py` makes a hundred."""

from pathlib import Path

from kill import kill_again_and_again


def test_kills_cost_no_byte(tmp_path: Path) -> None:
    counts = kill_again_and_again(tmp_path, kills=5, rows=6_000, longest=1.5)
    assert counts["kills"] >= 5
    assert counts["runs"] >= 1

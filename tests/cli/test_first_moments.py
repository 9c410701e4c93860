"""Signals in the first moments of the command, while it imports what it needs."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from processes import COMMAND

DELAYS = (20, 30, 40, 50, 60, 80, 100, 130, 170, 220, 300, 400, 500)
# A line of ours in a traceback, and the statement in it.
OURS = re.compile(r'File ".*/harmless_runtime/.*", line \d+, in .*\n +(.*)')


@pytest.mark.parametrize("start", [[COMMAND], [sys.executable, "-m", "harmless_runtime"]])
@pytest.mark.parametrize(
    ("number", "word"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")]
)
def test_a_signal_at_any_time(
    start: list[str | Path], number: signal.Signals, word: str, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"id": 1, "instruction": "a", "output": "b"}\n' * 40_000)
    codes = set()
    for delay in DELAYS:
        process = subprocess.Popen(
            [*start, "score", rows, "-o", tmp_path / f"{delay}.jsonl", "--model", "demo"],
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(delay / 1000)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        if process.returncode == 128 + number:
            assert word in errors
            assert "Traceback" not in errors
        else:
            # Python itself began still, or imported what the command needs to handle a signal. Its
            # exit code is 1 if a module of its own cannot be imported.
            assert process.returncode in (-number, 1), errors
            assert set(OURS.findall(errors)) <= {"import os", "import signal"}, errors
        codes.add(process.returncode)
    assert 128 + number in codes

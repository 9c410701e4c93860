"""Folders of workers that died are removed, and those of others stay."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from harmless_runtime.cluster.scratch import remove_left_behind, scratch_folder

PROGRAM = """
import time
from harmless_runtime.cluster.scratch import scratch_folder

with scratch_folder() as folder:
    (folder / "scores.jsonl").touch()
    print(folder, flush=True)
    time.sleep(100)
"""


def test_a_folder_is_removed_once_its_process_is_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / "harmless-piece-of-mine").mkdir()
    (tmp_path / "harmless-piece-of-mine/harmless.lock").write_text("mine")
    other = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    theirs = Path(other.stdout.readline().strip())
    with scratch_folder() as own:
        remove_left_behind()
        assert own.parent == theirs.parent == tmp_path
        assert (theirs / "scores.jsonl").exists()
        os.kill(other.pid, signal.SIGKILL)
        other.communicate()
        remove_left_behind()
        assert own.exists()
        assert not theirs.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["harmless-piece-of-mine"]

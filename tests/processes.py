"""Run the command `harmless` in real processes, and wait for what they write."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

# The type of the fixture `harmless`, which runs the command with arguments.
Harmless = Callable[..., subprocess.CompletedProcess[str]]

COMMAND = Path(sys.executable).with_name("harmless")


def in_a_shell(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a shell script in a folder. In the script, `$0` is the command `harmless`."""
    return subprocess.run(
        ["bash", "-c", script, COMMAND], capture_output=True, text=True, check=False, cwd=folder
    )


def wait_for(path: Path) -> None:
    """Wait until a file exists, at most a minute."""
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)

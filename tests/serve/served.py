"""Start `harmless serve` in a process of its own."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from processes import COMMAND


@dataclass(frozen=True)
class Served:
    """A server that runs: its URL, its process, and the file that it logs to."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path


def serving(folder: Path, *options: str) -> AbstractContextManager[Served]:
    """Run a server with the bundled model at a free port."""
    command = [str(COMMAND), "serve", "--model", "demo", "--provider", "cpu", "--port", "0"]
    return _listening(folder, [*command, *options])


def serving_slowly(
    folder: Path,
    *,
    row_seconds: float,
    timeout: float = 60,
    most_waiting: int = 16_384,
    hold: float = 60,
) -> AbstractContextManager[Served]:
    """Run a server that takes some seconds to tokenise a row."""
    script = Path(__file__).with_name("slow.py")
    numbers = map(str, (row_seconds, timeout, most_waiting, hold))
    return _listening(folder, [sys.executable, str(script), *numbers])


@contextmanager
def _listening(folder: Path, command: list[str]) -> Iterator[Served]:
    log = folder / "server.log"
    path = os.pathsep.join(sys.path)
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stderr=file, stdout=file, cwd=folder, env={**os.environ, "PYTHONPATH": path}
        )
    try:
        deadline = time.monotonic() + 60
        while not (found := re.search(r"listening at (http://\S+)", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield Served(found[1], process, log)
    finally:
        process.kill()
        process.wait()

"""Start `harmless serve` in a process of its own."""

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from processes import COMMAND


@dataclass(frozen=True)
class Served:
    """A server that runs: its URL, its process, and the file that it logs to."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[Served]:
    """Run a server with the bundled model at a free port."""
    log = folder / "server.log"
    command = [str(COMMAND), "serve", "--model", "demo", "--provider", "cpu", "--port", "0"]
    with log.open("wb") as file:
        process = subprocess.Popen([*command, *options], stderr=file, stdout=file)
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

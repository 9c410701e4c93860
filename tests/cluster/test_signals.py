"""Signals end a run on Ray as they end any other: with a message, 143 or 130, and no process."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from shards import children, write_shards

from processes import COMMAND

pytestmark = pytest.mark.slow


PROGRAM = """
import sys
from harmless_runtime.cli.app import main
from harmless_runtime.cluster import connection

connection._JOIN_SECONDS = float(sys.argv.pop(1))
sys.argv[0] = "harmless"
main()
"""


@pytest.mark.parametrize("seconds", [4, 100])
def test_what_answers_at_an_address_may_be_no_ray(seconds: int, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    (source,) = write_shards(tmp_path / "rows", 1, 10)
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        options = ["-o", str(tmp_path / "o.jsonl"), "--model", "demo", "--address", address]
        running = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(seconds), "score", str(source), *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if seconds == 100:
            time.sleep(8)
            running.terminate()
        _, errors = running.communicate(timeout=60)
    if seconds == 100:
        assert (running.returncode, "terminated" in errors) == (143, True), errors
    else:
        assert running.returncode == 1, errors
        assert f"no Ray has let this command in at {address}" in " ".join(errors.split())
        assert "ray start --head" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("seconds", "number"),
    [(1.5, signal.SIGTERM), (2.5, signal.SIGINT), (3.5, signal.SIGTERM), (6, signal.SIGTERM)],
)
def test_a_signal_ends_the_run(seconds: float, number: signal.Signals, tmp_path: Path) -> None:
    """At most of these times, Ray or its workers start."""
    pytest.importorskip("ray")
    paths = write_shards(tmp_path / "rows", 2, 60_000)
    options: list[str | Path] = ["-o", tmp_path / "out.jsonl", "--model", "demo"]
    running = subprocess.Popen(
        [COMMAND, "score", *paths, *options, "--workers", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(seconds)
    assert running.poll() is None
    started = children(running.pid)
    running.send_signal(number)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 128 + number, errors
    assert ("terminated" if number == signal.SIGTERM else "interrupted") in errors
    assert "Traceback" not in errors
    deadline = time.monotonic() + 20
    while any(Path("/proc", str(pid)).exists() for pid in started):
        assert time.monotonic() < deadline, "processes are left"
        time.sleep(0.2)
    assert not list(tmp_path.glob("*.lock"))

"""A Ray that has ended, or has no machine for a worker, is noticed while workers are waited for."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from shards import children, write_shards

from harmless_runtime.cluster.watch import Watch, started_here
from harmless_runtime.errors import SessionError

OPTIONS = {"num_cpus": 2}


class OtherRay:
    """Stands in for the module of a Ray that was joined."""

    def __init__(self, *nodes: dict[str, Any]) -> None:
        self.answer = list(nodes)

    def nodes(self) -> list[dict[str, Any]]:
        return self.answer


def start(stack: ExitStack, folder: Path, name: str) -> subprocess.Popen[bytes]:
    """Start a process that has a name, and waits."""
    program = folder / name
    program.write_text("#!/bin/sh\nread _\n")
    program.chmod(0o700)
    process = subprocess.Popen([program], stdin=subprocess.PIPE)
    stack.enter_context(process)
    stack.callback(process.kill)
    while Path(f"/proc/{process.pid}/comm").read_text() != f"{name}\n":
        time.sleep(0.01)
    return process


@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_a_process_of_an_own_ray_that_ends(name: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        processes = {each: start(stack, tmp_path, each) for each in ("raylet", "gcs_server")}
        started = started_here()
        assert started == {process.pid for process in processes.values()}
        watch = Watch(OtherRay(), started, OPTIONS)
        watch.look(has_workers=False)
        os.kill(processes[name].pid, signal.SIGKILL)
        os.waitid(os.P_PID, processes[name].pid, os.WEXITED | os.WNOWAIT)  # it is a zombie
        for _ in range(2):
            with pytest.raises(SessionError, match="the Ray of this run has ended") as raised:
                watch.look(has_workers=True)
            assert raised.value.hint == "`resume` goes on"
            processes[name].wait()
        with pytest.raises(SessionError, match="the Ray of this run has ended"):
            started_here()


def test_a_ray_that_was_joined_may_get_machines(caplog: pytest.LogCaptureFixture) -> None:
    dead = {"Alive": False, "Resources": {"CPU": 8.0}}
    small = {"Alive": True, "Resources": {"CPU": 1.0}}
    ray = OtherRay(dead, small)
    watch = Watch(ray, None, OPTIONS | {"num_gpus": 0}, patience=0.1)
    watch.look(has_workers=False)
    assert not caplog.messages
    time.sleep(0.1)
    watch.look(has_workers=False)
    watch.look(has_workers=False)  # it is told once in a while
    assert len(caplog.messages) == 1
    assert "no machine of the Ray could hold one, which needs 2 CPU" in caplog.text
    ray.answer.append({"Alive": True, "Resources": {"CPU": 2.0}})
    time.sleep(0.1)
    watch.look(has_workers=False)
    ray.answer.pop()
    time.sleep(0.1)
    watch.look(has_workers=True)
    watch.look(has_workers=False)
    assert len(caplog.messages) == 1


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["load", "pieces"])
@pytest.mark.parametrize("name", ["raylet", "gcs_server", "ray::DashboardAgent"])
def test_the_own_ray_of_a_run_is_killed(name: str, moment: str, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    paths = write_shards(tmp_path / "rows", 2, 60_000)
    out = tmp_path / "out.jsonl"
    manifest = tmp_path / "out.jsonl.pieces/manifest.jsonl"
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "harmless_runtime",
        "score",
        *paths,
        "-o",
        out,
    ]
    command += ["--model", "demo", "--workers", "2"]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def process(name: str) -> int | None:
        for pid in children(running.pid):
            words = re.split(rb"[ \0]", Path(f"/proc/{pid}/cmdline").read_bytes())
            if words[0].decode().split("/")[-1] == name:
                return pid
        return None

    deadline = time.monotonic() + 60
    while True:
        assert running.poll() is None
        assert time.monotonic() < deadline
        has_begun = manifest.exists() and b'"piece":' in manifest.read_bytes()
        pid = process(name) if process("ray::Worker") else None
        if pid and (has_begun or moment == "load"):
            break
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 1, errors
    # Without its agent, raylet goes on for a while.
    assert time.monotonic() - killed < (60 if name == "ray::DashboardAgent" else 30)
    assert "error: the Ray of this run has ended\nhint: --resume goes on\n" in errors
    assert "Traceback" not in errors
    if (name, moment) == ("raylet", "pieces"):
        done = subprocess.run(
            [*command, "--resume"], check=False, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 3, done.stderr
        rejects = tmp_path / "out.rejects.jsonl"
        lines = [path.read_bytes().count(b"\n") for path in (out, rejects)]
        assert sum(lines) == 120_000

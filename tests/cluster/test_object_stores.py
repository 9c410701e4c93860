"""Pieces and outputs in an object store that is served over HTTP, in processes of their own."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from shards import write_shards

from harmless_runtime.pipeline import score_files
from processes import COMMAND
from runs import cpu_engine, make_run
from servers import s3_store

pytestmark = pytest.mark.slow


@pytest.fixture
def s3(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty store, which the commands of a test find as well."""
    pytest.importorskip("ray")
    assert cache
    with s3_store() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        fs = fsspec.filesystem("s3", skip_instance_cache=True)
        fs.mkdir("bucket")
        yield fs


def command(source: str, url: str, *more: str) -> list[str]:
    return [str(COMMAND), "score", source, "-o", url, "--model", "demo", "--workers", "2", *more]


def local_output(paths: list[Path], folder: Path) -> bytes:
    """Return what one machine writes."""
    out = folder / "one.jsonl"
    score_files(make_run(paths, out, details=True, piece_bytes=2**20), cpu_engine())
    return out.read_bytes()


def test_a_run_from_a_store_into_a_store(s3: Any, tmp_path: Path) -> None:
    paths = write_shards(tmp_path / "rows", 2, 4000)  # of 0.8 MB
    for path in paths:
        s3.put_file(str(path), f"bucket/rows/{path.name}")
    done = subprocess.run(
        command("s3://bucket/rows", "s3://bucket/out.jsonl", "--details"),
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert sorted(s3.find("bucket"))[:3] == [
        "bucket/out.jsonl", "bucket/out.jsonl.run.json", "bucket/out.rejects.jsonl",
    ]  # fmt: skip
    assert not s3.exists("bucket/out.jsonl.pieces")
    expected = local_output(paths, tmp_path).replace(f"{tmp_path}/".encode(), b"s3://bucket/")
    assert s3.cat_file("bucket/out.jsonl") == expected


def test_the_command_is_killed_and_goes_on(s3: Any, cache: Path, tmp_path: Path) -> None:
    paths = write_shards(tmp_path / "rows", 1, 20000)
    asked = command(str(paths[0]), "s3://bucket/d/out.jsonl", "--details")
    running = subprocess.Popen(asked, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not any(b'"piece":' in path.read_bytes() for path in cache.rglob("manifest.jsonl")):
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    attempts = s3.find("bucket/d", withdirs=False)
    assert attempts
    assert all("/out.jsonl.pieces/" in name for name in attempts)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    refused = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=300)
    assert refused.returncode == 1
    assert "holds the pieces of an interrupted run" in refused.stderr
    done = subprocess.run(
        [*asked, "--resume"], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 3, done.stderr
    assert "rows done by an earlier run" in done.stderr
    s3.invalidate_cache()
    assert sorted(s3.find("bucket/d")) == [
        "bucket/d/out.jsonl", "bucket/d/out.jsonl.run.json", "bucket/d/out.rejects.jsonl",
    ]  # fmt: skip
    assert s3.cat_file("bucket/d/out.jsonl") == local_output(paths, tmp_path)

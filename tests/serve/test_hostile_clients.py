"""Clients that mean no good: others are answered, and memory and the log stay small."""

import resource
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from served import Served, serving

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")

ROW = {"instruction": "Say hello.", "output": "Hello!"}


def peak_memory(served: Served) -> int:
    """Return the most memory that the server has taken, in kilobytes."""
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    (peak,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(peak)


def test_a_long_malformed_body_does_not_keep_short_ones_waiting(tmp_path: Path) -> None:
    with serving(tmp_path) as served, ThreadPoolExecutor(2) as clients:
        url = served.url + "/score"
        bodies = (b"[" * 8_000_000, b"[" * 8_000_000)
        long = [clients.submit(httpx.post, url, content=body, timeout=120) for body in bodies]
        time.sleep(0.5)
        for _ in range(3):
            assert httpx.post(url, json=ROW, timeout=30).status_code == 200
        assert not any(answer.done() for answer in long)
        assert {answer.result().status_code for answer in long} == {400}


def test_bodies_of_very_many_elements_take_little_memory(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        httpx.post(served.url + "/score", json=ROW)
        before = peak_memory(served)
        numbers = b"[" + b"1," * 3_900_000 + b"1]"
        assert httpx.post(served.url + "/score", content=numbers).status_code == 413
        members = b",".join(b'"%d":1' % n for n in range(600_000))
        row = b'{"instruction":"a","output":"b",%b}' % members
        assert httpx.post(served.url + "/score", content=row).status_code == 422
        row = b'{"rows":[{"instruction":"a","output":"b"}],%b}' % members
        assert httpx.post(served.url + "/score", content=row).status_code == 422
        rows = b'{"rows":[{"instruction":"a","output":"%b"}]}' % (b"b, " * 200_000)
        answer = httpx.post(served.url + "/score", content=rows, timeout=60)
        assert len(answer.json()["scores"]) == 1
        assert peak_memory(served) - before < 150_000


def test_more_connections_than_files_can_be_open(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with serving(tmp_path) as served:
        resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE, (100, limits[1]))
        place = urlsplit(served.url)
        connections = [
            socket.create_connection((place.hostname, place.port), timeout=5) for _ in range(120)
        ]
        time.sleep(2.5)
        for connection in connections:
            connection.close()
        time.sleep(1.5)
        assert httpx.post(served.url + "/score", json=ROW, timeout=30).status_code == 200
        log = served.log.read_text()
    assert log.count("socket.accept()") == 1
    assert "Traceback" not in log

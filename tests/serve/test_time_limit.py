"""Whatever a request takes, it is answered in time, and so is each one after a signal."""

import json
import re
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from served import Served, serving_slowly

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")

ROW = {"instruction": "Say hello.", "output": "Hello! " * 20}


def ask(server: Served, rows: int) -> tuple[int, Any, float]:
    """Return the status, the answer and its seconds."""
    start = time.monotonic()
    answer = httpx.post(server.url + "/score", json=[ROW] * rows, timeout=60)
    return answer.status_code, answer.json(), time.monotonic() - start


def waiting(server: Served) -> float:
    text = httpx.get(server.url + "/metrics").text
    found = re.search(r"^harmless_rows_waiting (\S+)", text, re.MULTILINE)
    assert found
    return float(found[1])


def calls(folder: Path) -> list[tuple[int, int]]:
    """Return the rows and the bytes of each call of the tokenizer."""
    lines = (folder / "calls").read_text().splitlines()
    return [(int(rows), int(size)) for rows, size in (line.split() for line in lines)]


def until_waiting(server: Served, rows: float) -> None:
    """Wait until at least as many rows wait, or none at all if it is 0."""
    deadline = time.monotonic() + 20
    while not (waiting(server) >= rows if rows else waiting(server) == 0):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_time_limit_holds_while_rows_are_tokenised(tmp_path: Path) -> None:
    with serving_slowly(tmp_path, row_seconds=0.004, timeout=1) as server:
        status, answer, seconds = ask(server, 1000)
        assert (status, answer) == (504, {"error": "not scored within 1 s"})
        assert seconds < 2
        time.sleep(1)
        assert len(calls(tmp_path)) <= 3, "nothing is tokenised that nobody waits for"
        assert waiting(server) == 0
        assert ask(server, 1)[0] == 200


def test_rows_are_tokenised_a_few_at_a_time(tmp_path: Path) -> None:
    long = {"instruction": "a", "output": "word " * 20_000}
    with serving_slowly(tmp_path, row_seconds=0) as server:
        rows = [long] * 6 + [ROW] * 300
        answer = httpx.post(server.url + "/score", json=rows, timeout=60)
        assert len(answer.json()["scores"]) == 306
    most = calls(tmp_path)
    assert max(rows for rows, _ in most) <= 128
    assert max(size for _, size in most) <= 2**18 + 110_000
    assert sum(rows for rows, _ in most) == 306


def test_rows_that_are_tokenised_count_as_waiting(tmp_path: Path) -> None:
    with serving_slowly(tmp_path, row_seconds=0.005, timeout=5, most_waiting=210) as server:
        with ThreadPoolExecutor(8) as clients:
            first = clients.submit(ask, server, 200)
            until_waiting(server, 200)
            assert httpx.get(server.url + "/ready").status_code == 200
            status, answer, seconds = ask(server, 20)
            assert status == 429
            assert "too many rows wait" in answer["error"]
            assert seconds < 0.5, "it is refused before it is tokenised"
            assert first.result()[0] == 200
        assert waiting(server) == 0


def test_requests_that_wait_to_be_tokenised_time_out_too(tmp_path: Path) -> None:
    with serving_slowly(tmp_path, row_seconds=0.7, timeout=1) as server:
        with ThreadPoolExecutor(12) as clients:
            done = list(clients.map(lambda _: ask(server, 1), range(12)))
        assert {status for status, *_ in done} == {200, 504}
        assert max(seconds for *_, seconds in done) < 2
        assert sum(status == 200 for status, *_ in done) == 2, "as many as are tokenised at once"


def test_a_client_that_hangs_up_is_not_tokenised_further(tmp_path: Path) -> None:
    body = json.dumps([ROW] * 1000).encode()
    head = f"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with serving_slowly(tmp_path, row_seconds=0.0025) as server:
        place = urlsplit(server.url)
        with socket.create_connection((str(place.hostname), place.port or 0)) as client:
            client.sendall(head + body)
            until_waiting(server, 1000)
        until_waiting(server, 0)
        time.sleep(0.7)
        assert len(calls(tmp_path)) <= 3


def test_after_a_signal_each_request_is_answered_in_time(tmp_path: Path) -> None:
    with serving_slowly(tmp_path, row_seconds=0.0025, timeout=2) as server:
        with ThreadPoolExecutor(4) as clients:
            asked = [clients.submit(ask, server, 1000) for _ in range(2)]
            until_waiting(server, 2000)
            asked += [clients.submit(ask, server, 1) for _ in range(2)]
            time.sleep(0.2)  # so that they are accepted
            server.process.send_signal(signal.SIGTERM)
            statuses = [each.result()[0] for each in asked]
        assert server.process.wait(20) == 0
    assert statuses == [504, 504, 200, 200]
    log = server.log.read_text()
    assert "every request that was accepted is answered" in log
    assert "Traceback" not in log


def test_after_a_second_interrupt_they_are_told_so(tmp_path: Path) -> None:
    with serving_slowly(tmp_path, row_seconds=0.003, timeout=20) as server:
        with ThreadPoolExecutor(2) as clients:
            asked = [clients.submit(ask, server, 1000) for _ in range(2)]
            until_waiting(server, 2000)
            for _ in range(2):
                server.process.send_signal(signal.SIGINT)
                time.sleep(0.3)
            answers = [each.result() for each in asked]
        assert server.process.wait(20) == 0
    for status, answer, _ in answers:
        assert status == 503
        assert answer == {"error": "the server ended before the rows were scored"}
    log = server.log.read_text()
    assert "is answered, 2 of them with 503, for want of time" in log
    assert "Traceback" not in log

"""Requests of trainers are held while the queue is full, and lose no reward for that."""

import json
import re
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from served import Served, serving, serving_slowly

from harmless_runtime import Gpt2HarmlessScorer, bundled
from reading import read_rows

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")

ROWS = [row for row in read_rows(bundled.ROWS) if {"instruction", "output"} <= row.keys()]
PATHS = ("/get_reward", "/classify")


def body(path: str, count: int = 1) -> Any:
    """Return a request for the rewards of as many texts."""
    texts = ["\n\nHuman: Say hello.\n\nAssistant: Hello!"] * count
    return {"query": texts} if path == "/get_reward" else {"model": "", "input": texts}


def ask(server: Served, path: str, count: int = 1) -> Any:
    return httpx.post(server.url + path, json=body(path, count), timeout=60)


def gauge(server: Served, name: str) -> float:
    found = re.search(rf"^{name} (\S+)", httpx.get(server.url + "/metrics").text, re.MULTILINE)
    assert found
    return float(found[1])


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def until(server: Served, **gauges: float) -> None:
    """Wait until gauges have these values."""
    wait_until(
        lambda: all(gauge(server, f"harmless_{name}") == value for name, value in gauges.items())
    )


@pytest.mark.parametrize("path", PATHS)
def test_none_of_many_clients_is_refused(path: str, tmp_path: Path) -> None:
    rows = (ROWS * 10)[:60]
    turns = "<|im_start|>user\n{instruction}<|im_end|>\n<|im_start|>assistant\n{output}<|im_end|>"
    texts = [turns.format(**row) for row in rows]
    scorer = Gpt2HarmlessScorer({"model": "demo", "provider": "cpu"})
    expected = scorer.score_batch(
        [{"instruction": row["instruction"], "output": row["output"]} for row in rows]
    )

    def reward(text: str) -> float:
        asked = {"query": [text]} if path == "/get_reward" else {"model": "", "input": text}
        answer = httpx.post(server.url + path, json=asked, timeout=60)
        assert answer.status_code == 200
        told = answer.json()
        return float(told["rewards"][0] if "rewards" in told else told["data"][0]["probs"][0])

    with serving(tmp_path, "--max-waiting", "2") as server:
        with ThreadPoolExecutor(len(texts)) as clients:
            rewards = list(clients.map(reward, texts))
        assert gauge(server, "harmless_requests_held") == 0
    assert rewards == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("path", PATHS)
def test_without_time_to_hold_it_is_refused_at_once(path: str, tmp_path: Path) -> None:
    with (
        serving_slowly(tmp_path, row_seconds=0.1, most_waiting=10, hold=0) as server,
        ThreadPoolExecutor(1) as clients,
    ):
        first = clients.submit(ask, server, path, 10)
        until(server, rows_waiting=10)
        start = time.monotonic()
        refused = ask(server, path)
        assert time.monotonic() - start < 0.5
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) >= 1
        assert first.result().status_code == 200


def test_who_is_held_too_long_is_refused(tmp_path: Path) -> None:
    with (
        serving_slowly(tmp_path, row_seconds=0.2, most_waiting=10, hold=0.5) as server,
        ThreadPoolExecutor(4) as clients,
    ):
        first = clients.submit(ask, server, "/get_reward", 10)
        until(server, rows_waiting=10)
        start = time.monotonic()
        refused = ask(server, "/get_reward")
        assert 0.5 <= time.monotonic() - start < 1
        assert refused.status_code == 429
        assert "too many rows wait" in refused.json()["error"]
        assert int(refused.headers["Retry-After"]) >= 1
        assert first.result().status_code == 200
        until(server, rows_waiting=0, requests_held=0)


def test_they_are_let_in_as_they_came_and_no_other_before_them(tmp_path: Path) -> None:
    done: list[int] = []

    def note(number: int) -> Any:
        return lambda _: done.append(number)

    with (
        serving_slowly(tmp_path, row_seconds=0.15, most_waiting=10) as server,
        ThreadPoolExecutor(5) as clients,
    ):
        asked: list[Future[Any]] = []
        # The third has more rows than may wait, and the second fits beside the first no more.
        for number, count in enumerate([8, 5, 12, 1, 1]):
            asked.append(clients.submit(ask, server, PATHS[number % 2], count))
            asked[-1].add_done_callback(note(number))
            until(server, requests_held=number, rows_waiting=8)
        assert httpx.get(server.url + "/ready").status_code == 503
        row = {"instruction": "a", "output": "b"}
        refused = httpx.post(server.url + "/score", json=row, timeout=60)
        assert refused.status_code == 429, "its row would fit, but others came before"
        assert [each.result().status_code for each in asked] == [200] * 5
        assert sorted(done[:3]) == [0, 1, 2]
        assert done[2] == 2
        until(server, requests_held=0, rows_waiting=0)
        assert httpx.get(server.url + "/ready").status_code == 200


def test_the_time_limit_does_not_run_while_they_are_held(tmp_path: Path) -> None:
    with (
        serving_slowly(tmp_path, row_seconds=0.15, timeout=0.9, most_waiting=4) as server,
        ThreadPoolExecutor(3) as clients,
    ):
        start = time.monotonic()
        answers = list(clients.map(lambda _: ask(server, "/get_reward", 4), range(3)))
        assert [answer.status_code for answer in answers] == [200] * 3
        assert time.monotonic() - start > 1.5
        assert ask(server, "/get_reward", 7).status_code == 504


def test_who_hangs_up_is_held_no_more(tmp_path: Path) -> None:
    content = json.dumps(body("/get_reward", 10)).encode()
    head = f"POST /get_reward HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
    with (
        serving_slowly(tmp_path, row_seconds=0.1, most_waiting=10) as server,
        ThreadPoolExecutor(2) as clients,
    ):
        first = clients.submit(ask, server, "/get_reward", 10)
        until(server, rows_waiting=10)
        place = urlsplit(server.url)
        with socket.create_connection((str(place.hostname), place.port or 0)) as client:
            client.sendall(head.encode() + content)
            until(server, requests_held=1)
        until(server, requests_held=0)
        assert first.result().status_code == 200
        assert ask(server, "/get_reward").status_code == 200
    calls = (tmp_path / "calls").read_text().splitlines()
    assert sum(int(line.split()[0]) for line in calls) == 11


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT]])
def test_a_signal_ends_in_an_answer_for_each(signals: list[int], tmp_path: Path) -> None:
    with (
        serving_slowly(tmp_path, row_seconds=0.1, most_waiting=10) as server,
        ThreadPoolExecutor(4) as clients,
    ):
        asked = [clients.submit(ask, server, "/classify", 10)]
        until(server, rows_waiting=10)
        asked += [clients.submit(ask, server, "/classify", 2) for _ in range(3)]
        until(server, requests_held=3)
        for each in signals:
            server.process.send_signal(each)
            time.sleep(0.2)
        answers = [each.result() for each in asked]
        assert server.process.wait(20) == 0
    ended = len(signals) == 2
    assert {answer.status_code for answer in answers} == {503 if ended else 200}
    if ended:
        reason = "the server ended before the rows were scored"
        assert [answer.json() for answer in answers] == [{"error": reason}] * 4
    log = server.log.read_text()
    assert "every request that was accepted is answered" in log
    assert "Traceback" not in log


def test_no_more_is_held_than_fits_in_memory(tmp_path: Path) -> None:
    text = "\n\nHuman: Say hello.\n\nAssistant: " + "a" * (8 * 2**20 - 100)
    content = json.dumps({"query": text}).encode()
    with (
        serving_slowly(tmp_path, row_seconds=0.4, most_waiting=10, hold=3) as server,
        ThreadPoolExecutor(21) as clients,
    ):
        first = clients.submit(ask, server, "/get_reward", 10)
        until(server, rows_waiting=10)

        def ask_long(_: int) -> int:
            url = server.url + "/get_reward"
            return int(httpx.post(url, content=content, timeout=60).status_code)

        asked = [clients.submit(ask_long, number) for number in range(20)]
        wait_until(lambda: sum(each.done() for each in asked) == 5)
        assert {each.result() for each in asked if each.done()} == {429}
        assert gauge(server, "harmless_requests_held") == 15, "of 16 MiB, with the texts in them"
        assert first.result().status_code == 200

"""Clients that send slowly, hang up or send nothing do not hold the server's places for long."""

import json
import socket
import time
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from served import Served, serving

from harmless_runtime import bundled
from reading import read_rows

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")

ROWS = list(read_rows(bundled.ROWS))


def connect(server: Served) -> socket.socket:
    place = urlsplit(server.url)
    return socket.create_connection((str(place.hostname), place.port or 0), timeout=30)


def test_a_client_that_sends_slowly_or_hangs_up_costs_no_place(tmp_path: Path) -> None:
    body = json.dumps(ROWS[:50]).encode()
    head = f"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with serving(tmp_path) as server:
        for sent in (head, head + body[:100], head + body):
            with connect(server) as client:
                client.sendall(sent)
        time.sleep(0.5)
        assert "harmless_rows_waiting 0.0" in httpx.get(server.url + "/metrics").text
        answer = httpx.post(server.url + "/score", json=ROWS[0], timeout=60)
        assert answer.status_code == 200


def test_connections_without_a_request_are_closed(tmp_path: Path) -> None:
    with serving(tmp_path, "--timeout", "1.5") as server:
        for sent in (b"", b"POST /score HTTP/1.1\r\nHost: "):
            with connect(server) as client:
                client.sendall(sent)
                start = time.monotonic()
                while client.recv(4096):
                    pass
                assert 1.5 < time.monotonic() - start < 15
        used = HTTPConnection(urlsplit(server.url).netloc, timeout=30)
        used.connect()
        first = used.sock
        for _ in range(8):
            used.request("GET", "/health")
            assert used.getresponse().read() == b'{"status":"ok"}'
            time.sleep(0.4)
        assert used.sock is first
        used.close()

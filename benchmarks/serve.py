"""Load `harmless serve` with more and more clients, and beyond what it can do.

    python benchmarks/serve.py --model ARTIFACT --rows FILE --clients 1 4 16 64 --seconds 20

Each client sends its next request when the last one is answered, a row each. Then requests come at
twice the rate that the server had with most clients, whether or not it keeps up. At last the engine
alone scores the same rows, without HTTP. `--soak` repeats the largest load for as many minutes, and
tells the server's memory after each.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from harmless_runtime import Gpt2HarmlessScorer
from suite.isolation import describe_machine
from suite.workload import load_rows

RESULTS = Path(__file__).with_name("results")


@dataclass(frozen=True)
class Load:
    """What became of the requests of one load. Seconds are those of answered requests.

    `clients` is their number, or None if requests came at a fixed rate.
    """

    clients: int | None
    seconds: float
    answered: int
    refused: int
    other: int
    rows_per_second: float
    p50_ms: float
    p99_ms: float
    resident_mb: float


class Server:
    """A server with a model, in a process of its own.

    Args:
        model: the artifact, or `demo`.
        options: further options of the command.
    """

    def __init__(self, model: str, options: Sequence[str]) -> None:
        self._folder = tempfile.TemporaryDirectory()
        log = Path(self._folder.name, "log")
        command = [sys.executable, "-m", "harmless_runtime", "serve", "--model", model]
        with log.open("wb") as file:
            self._process = subprocess.Popen([*command, "--port", "0", *options], stderr=file)
        while not (found := re.search(r"listening at (http://\S+)", log.read_text())):
            if self._process.poll() is not None:
                raise SystemExit(log.read_text())
            time.sleep(0.1)
        place = urlsplit(found[1])
        self.place = str(place.hostname), int(place.port or 0)

    @property
    def resident_mb(self) -> float:
        """The memory that its process holds, in megabytes."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+)", status)
        return int(found[1]) / 1000 if found else 0.0

    def stop(self) -> None:
        """End it as SIGTERM does, and check that it ends well."""
        self._process.terminate()
        assert self._process.wait(120) == 0


class Answers:
    """Counts answers, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.statuses: Counter[int] = Counter()
        self.seconds: list[float] = []

    def ask(self, connection: HTTPConnection, body: bytes, due: float | None = None) -> None:
        """Send a request and wait for its answer. `due` is when it should have been sent."""
        start = time.perf_counter() if due is None else due
        connection.request("POST", "/score", body)
        answer = connection.getresponse()
        answer.read()
        with self._lock:
            self.statuses[answer.status] += 1
            if answer.status == 200:
                self.seconds.append(time.perf_counter() - start)

    def load(self, server: Server, clients: int | None, seconds: float) -> Load:
        """Return the figures."""
        p50, p99 = np.percentile(self.seconds or [0.0], [50, 99]) * 1000
        answered, refused = self.statuses[200], self.statuses[429]
        return Load(
            clients, round(seconds, 2), answered, refused,
            self.statuses.total() - answered - refused, round(answered / seconds, 1),
            round(float(p50), 1), round(float(p99), 1), round(server.resident_mb, 1),
        )  # fmt: skip


def closed_load(server: Server, bodies: list[bytes], clients: int, seconds: float) -> Load:
    """Let clients ask one request after the other."""
    answers = Answers()
    start = time.perf_counter()

    def client(number: int) -> None:
        connection = HTTPConnection(*server.place, timeout=300)
        count = 0
        while time.perf_counter() < start + seconds:
            answers.ask(connection, bodies[(number + count * clients) % len(bodies)])
            count += 1
        connection.close()

    _run_all([threading.Thread(target=client, args=(n,)) for n in range(clients)])
    return answers.load(server, clients, time.perf_counter() - start)


def open_load(server: Server, bodies: list[bytes], rate: float, seconds: float) -> Load:
    """Let requests come at a rate, from as many clients as are needed."""
    answers = Answers()
    start = time.perf_counter()
    clients = 256

    def client(number: int) -> None:
        connection = HTTPConnection(*server.place, timeout=300)
        turn = number
        while (due := start + turn / rate) < start + seconds:
            time.sleep(max(0.0, due - time.perf_counter()))
            answers.ask(connection, bodies[turn % len(bodies)], due)
            turn += clients
        connection.close()

    _run_all([threading.Thread(target=client, args=(n,)) for n in range(clients)])
    return answers.load(server, None, time.perf_counter() - start)


def _run_all(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def alone(model: str, rows: list[dict[str, str]]) -> tuple[str, float]:
    """Return the provider, and the rows per second of the engine without a server."""
    scorer = Gpt2HarmlessScorer({"model": model})
    scorer.score_batch(rows[:50])
    start = time.perf_counter()
    scorer.score_batch(rows)
    pace = len(rows) / (time.perf_counter() - start)
    return scorer.engine.runner.target.provider, round(pace, 1)


def main() -> None:
    """Measure, print, and write `benchmarks/results/serve-….json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="demo", help="the artifact, or demo")
    parser.add_argument("--rows", default="generated", help="a file of rows")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--soak", type=int, default=0, help="minutes")
    parser.add_argument("--max-waiting", type=int, default=128)
    parser.add_argument("--label", required=True)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    rows = [asdict(row) for row in load_rows(args.rows, args.count)]
    bodies = [json.dumps(row).encode() for row in rows]
    provider, pace = alone(args.model, rows)
    figures: dict[str, Any] = {"provider": provider, "alone": pace}
    print(figures, flush=True)
    server = Server(args.model, ["--max-waiting", str(args.max_waiting)])
    closed_load(server, bodies, 4, 2)
    loads = []
    for clients in args.clients:
        loads.append(closed_load(server, bodies, clients, args.seconds))
        print(loads[-1], flush=True)
    twice = open_load(server, bodies, 2 * loads[-1].rows_per_second, args.seconds)
    print("twice as many:", twice, flush=True)
    figures |= {"results": [asdict(load) for load in loads], "twice": asdict(twice)}
    if args.soak:
        soak = [closed_load(server, bodies, args.clients[-1], 60) for _ in range(args.soak)]
        figures["soak"] = [asdict(minute) for minute in soak]
    server.stop()
    today = datetime.now(UTC).date().isoformat()
    about = {"kind": "serve", "date": today, "model": Path(args.model).name}
    about |= {"rows": Path(args.rows).name, "max_waiting": args.max_waiting}
    path = args.results / f"serve-{Path(args.model).name}-{args.label}-{today}.json"
    content = about | {"machine": describe_machine(provider)} | figures
    path.write_text(json.dumps(content, indent=2) + "\n")
    print(path)


if __name__ == "__main__":
    main()

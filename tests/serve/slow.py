"""A server whose tokenizer takes its time.

    python slow.py SECONDS_PER_ROW TIMEOUT MOST_WAITING HOLD_SECONDS

It stands for texts that are slow to tokenise, whatever the tokenizer is. It writes each call's
number of rows and of bytes to the file `calls`.
"""

import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harmless_runtime.cli.failures import terminal
from harmless_runtime.cli.serve import answer_requests
from harmless_runtime.rows.shapes import Reading
from harmless_runtime.serve.answers import Limits
from runs import cpu_engine


class SlowTokenizer:
    """Takes as long for each row. Everything else is the tokenizer's."""

    def __init__(self, tokenizer: Any, seconds: float) -> None:
        self._tokenizer = tokenizer
        self._seconds = seconds

    def encode_each(self, pairs: Sequence[tuple[str, str]]) -> Any:
        with Path("calls").open("a") as file:
            file.write(f"{len(pairs)} {sum(len(q) + len(a) for q, a in pairs)}\n")
        time.sleep(self._seconds * len(pairs))
        return self._tokenizer.encode_each(pairs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def main(seconds: str, timeout: str, most_waiting: str, hold: str) -> None:
    engine = cpu_engine()
    slow: Any = SlowTokenizer(engine.tokenizer, float(seconds))
    limits = Limits(
        seconds=float(timeout), most_waiting=int(most_waiting), hold_seconds=float(hold)
    )
    with terminal() as console, socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        answer_requests(console, replace(engine, tokenizer=slow), Reading(), limits, place)


if __name__ == "__main__":
    main(*sys.argv[1:])

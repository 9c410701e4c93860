"""Requests share batches, wait in a bounded queue, and may be given up."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np
import pytest

from harmless_runtime.errors import SessionError
from harmless_runtime.model.engine import Engine
from harmless_runtime.model.session import Session
from harmless_runtime.model.target import Target
from harmless_runtime.model.tokenizer import Encoded
from harmless_runtime.serve.batcher import Batcher, Job, QueueFullError
from runners import ChangedRunner, Ids, Rewards
from runs import cpu_engine


class Gate:
    """An engine whose batches wait until the gate is open, and may fail."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.error: Exception | None = None
        self.batches = 0
        engine = cpu_engine()
        session = Session(engine.artifact, Target("cpu"), 8192)
        self.engine: Engine = replace(engine, runner=ChangedRunner(session, self._pass))

    def _pass(self, _: Ids, rewards: Rewards) -> Rewards:
        self.open.wait(30)
        self.batches += 1
        if self.error is not None:
            raise self.error
        return rewards

    def rows(self, count: int, word: str = "a") -> list[Encoded]:
        return self.engine.tokenizer.encode([(f"{word} {n}", "b") for n in range(count)])


@contextmanager
def batching(gate: Gate, wait_seconds: float = 0.0, most_waiting: int = 100) -> Iterator[Batcher]:
    batcher = Batcher(gate.engine, wait_seconds=wait_seconds, most_waiting=most_waiting)
    try:
        yield batcher
    finally:
        gate.open.set()
        batcher.close()


def test_requests_that_wait_a_little_share_a_batch() -> None:
    gate = Gate()
    rows = gate.rows(6)
    expected = gate.engine.score(rows)
    gate.batches = 0
    with batching(gate, wait_seconds=0.5) as batcher:
        jobs = [batcher.submit(rows[i : i + 2]) for i in (0, 2, 4)]
        scores = np.concatenate([job.future.result(30) for job in jobs])
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert gate.batches == 1


def begun(batcher: Batcher, rows: list[Encoded]) -> Job:
    """Submit rows, and wait until they are no longer in the queue."""
    job = batcher.submit(rows)
    deadline = time.monotonic() + 10
    while batcher.waiting_rows:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return job


def test_a_full_queue_refuses_and_says_when_to_come_again() -> None:
    gate = Gate()
    with batching(gate, most_waiting=10) as batcher:
        batcher.submit(gate.rows(2)).future.result(30)
        gate.open.clear()
        jobs = [begun(batcher, gate.rows(3)), batcher.submit(gate.rows(8, "z"))]
        with pytest.raises(QueueFullError) as raised:
            batcher.submit(gate.rows(3, "w"))
        assert raised.value.seconds > 0
        assert not batcher.is_full
        jobs.append(batcher.submit(gate.rows(2, "w")))
        assert batcher.is_full
        gate.open.set()
        for job in jobs:
            assert np.isfinite(job.future.result(30)).all()
    assert batcher.waiting_rows == 0


def test_rows_count_before_they_are_tokenised() -> None:
    gate = Gate()
    gate.open.clear()
    with batching(gate, most_waiting=10) as batcher:
        begun(batcher, gate.rows(1))
        with batcher.place() as place:
            batcher.resize(place, 1)
            assert batcher.waiting_rows == 1
            batcher.resize(place, 9)
            with pytest.raises(QueueFullError):
                batcher.submit(gate.rows(2))
            with batcher.place() as other, pytest.raises(QueueFullError):
                batcher.resize(other, 2)
            assert batcher.waiting_rows == 9
            batcher.submit(gate.rows(7), place)  # the other two cannot be scored
            assert batcher.waiting_rows == 7
        assert batcher.waiting_rows == 7
        with batcher.place() as left:
            pass
        batcher.resize(left, 5)  # as a thread does whose request has been given up
        assert batcher.waiting_rows == 7
        gate.open.set()


def test_who_is_held_gets_in_in_the_order_in_which_they_came() -> None:
    gate = Gate()
    gate.open.clear()
    with batching(gate, most_waiting=10) as batcher, ExitStack() as stack:
        begun(batcher, gate.rows(1))
        jobs = [batcher.submit(gate.rows(8))]
        places = [stack.enter_context(batcher.place()) for _ in range(4)]
        batcher.resize(places[1], 1)
        with batcher.held(places[3], 1) as given_up:
            assert given_up.done(), "there is room for it"
        batcher.resize(places[3], 0)
        # The second one, which came early and has been read by now, is large.
        last = stack.enter_context(batcher.held(places[2], 30))
        large = stack.enter_context(batcher.held(places[1], 7))
        with batcher.held(places[0], 9) as first:
            for place in (places[3], None):
                with pytest.raises(QueueFullError):
                    batcher.submit(gate.rows(1), place)
            assert batcher.is_full
            assert batcher.waiting_rows == 8
        assert first.cancelled()
        assert not large.done()
        batcher.cancel(jobs[0])
        assert large.done()
        assert not last.done()
        assert batcher.waiting_rows == 7
        batcher.resize(places[1], 7)
        jobs = [batcher.submit(gate.rows(7, "z"), places[1])]
        assert not last.done()
        gate.open.set()
        assert np.isfinite(jobs[0].future.result(30)).all()
        last.result(30)
        assert batcher.waiting_rows == 30, "more rows than may wait, but no others"
    assert batcher.waiting_rows == 0


def test_a_request_may_be_larger_than_the_queue() -> None:
    gate = Gate()
    with batching(gate, most_waiting=2) as batcher:
        assert len(batcher.submit(gate.rows(9)).future.result(30)) == 9
        assert len(batcher.submit([]).future.result(0)) == 0


def test_what_nobody_waits_for_is_not_scored() -> None:
    gate = Gate()
    gate.open.clear()
    with batching(gate) as batcher:
        first = begun(batcher, gate.rows(1))
        others = [batcher.submit(gate.rows(2, word)) for word in "pq"]
        batcher.cancel(others[1])
        batcher.cancel(others[1])
        batcher.cancel(first)  # it has begun
        assert batcher.waiting_rows == 2
        gate.open.set()
        for job in (first, others[0]):
            assert np.isfinite(job.future.result(30)).all()
        assert others[1].future.cancelled()


def test_a_failure_ends_only_the_requests_that_it_hit() -> None:
    gate = Gate()
    with batching(gate) as batcher:
        gate.error = SessionError("the device is gone")
        with pytest.raises(SessionError, match="the device is gone"):
            batcher.submit(gate.rows(2)).future.result(30)
        gate.error = None
        assert np.isfinite(batcher.submit(gate.rows(2)).future.result(30)).all()


def test_closing_scores_what_waits() -> None:
    gate = Gate()
    gate.open.clear()
    with batching(gate) as batcher:
        jobs = [batcher.submit(gate.rows(1, word)) for word in "abcdefg"]
        threading.Timer(0.2, gate.open.set).start()
        batcher.close()
        assert all(job.future.done() for job in jobs)
        with pytest.raises(QueueFullError):
            batcher.submit(gate.rows(1))
